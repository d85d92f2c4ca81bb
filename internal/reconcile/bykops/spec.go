package bykops

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

// setTopology returns the change of the spec's DNS type: one field of one object, with
// compare-and-swap.
func (e *Executor) setTopology(none bool) layout {
	value := "None"
	if !none {
		value = "Private"
	}
	return func(_ context.Context, w world, _ plan.Planned) ([]reconcile.Action, error) {
		if w.Spec.UsesNoneDNS() == none && !w.begun {
			return nil, nil
		}
		path, err := spec.ParsePath("spec.topology.dns.type")
		if err != nil {
			return nil, err
		}
		return []reconcile.Action{{
			ID:   "spec",
			What: "set spec.topology.dns.type to " + value,
			Do: func(ctx context.Context, say func(string)) error {
				key := store.Layout(e.Problem.Cluster).Config()
				_, err := store.Update(ctx, e.Store, key, func(old []byte) ([]byte, error) {
					return spec.Edit(old, spec.Set(path, value))
				})
				if err != nil {
					return fmt.Errorf("change %s: %w", store.Where(e.Store, key), err)
				}
				say(store.Where(e.Store, key) + ": spec.topology.dns.type is " + value)
				return nil
			},
			Gates: []reconcile.Gate{e.boolGate("the spec asks for "+value, time.Minute, func(w world) (bool, string) {
				return w.Spec.UsesNoneDNS() == none, fmt.Sprintf("spec.topology.dns.type is %s", w.Spec.DNSType)
			})},
		}}, nil
	}
}

// rollout is a group's rolling-update policy: spec.rollingUpdate, the group's over the
// cluster's, with kOps's defaults.
type rollout struct {
	surge       int  // maxSurge, in instances
	unavailable int  // maxUnavailable, in instances
	manual      bool // drainAndTerminate is false: a person replaces the nodes
	back        bool // a rollback, which may restore gossip
}

// rollingUpdate is the field as a spec has it; numbers may be percentages.
type rollingUpdate struct {
	DrainAndTerminate *bool   `yaml:"drainAndTerminate"`
	MaxSurge          *string `yaml:"maxSurge"`
	MaxUnavailable    *string `yaml:"maxUnavailable"`
}

// rolloutOf reads the policy of a group of the given size.
func rolloutOf(manifest []byte, group string, size int) (rollout, error) {
	var field rollingUpdate
	over := func(r rollingUpdate) {
		if r.DrainAndTerminate != nil {
			field.DrainAndTerminate = r.DrainAndTerminate
		}
		if r.MaxSurge != nil {
			field.MaxSurge = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			field.MaxUnavailable = r.MaxUnavailable
		}
	}
	var own *rollingUpdate
	for _, d := range spec.Documents(manifest) {
		var doc struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				RollingUpdate rollingUpdate `yaml:"rollingUpdate"`
			}
		}
		if err := spec.Decode(d.Data, &doc); err != nil {
			return rollout{}, fmt.Errorf("read rollingUpdate: %w", err)
		}
		switch {
		case doc.Kind == "Cluster":
			over(doc.Spec.RollingUpdate)
		case doc.Kind == "InstanceGroup" && doc.Metadata.Name == group:
			own = &doc.Spec.RollingUpdate
		}
	}
	if own != nil {
		over(*own)
	}
	p := rollout{surge: 1, manual: field.DrainAndTerminate != nil && !*field.DrainAndTerminate}
	var err error
	if field.MaxSurge != nil {
		if p.surge, err = share(*field.MaxSurge, size, true); err != nil {
			return p, fmt.Errorf("rollingUpdate.maxSurge of %s: %w", group, err)
		}
	}
	if p.surge == 0 {
		p.unavailable = 1
	}
	if field.MaxUnavailable != nil {
		if p.unavailable, err = share(*field.MaxUnavailable, size, false); err != nil {
			return p, fmt.Errorf("rollingUpdate.maxUnavailable of %s: %w", group, err)
		}
	}
	if p.surge == 0 {
		p.unavailable = max(p.unavailable, 1) // with both 0 nothing could be replaced
	}
	return p, nil
}

// share parses a number or a percentage of size, rounded up or down. As in kOps, a
// surge is rounded up and unavailability down.
func share(text string, size int, up bool) (int, error) {
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%.20q is neither a number nor a percentage", text)
	}
	if !percent {
		return n, nil
	}
	if up {
		return (n*size + 99) / 100, nil
	}
	return n * size / 100, nil
}

// roleFlag is kOps's spelling of a role in --instance-group-roles.
func roleFlag(role cluster.Role) string {
	if role == cluster.RoleNode {
		return "node"
	}
	return "control-plane"
}
