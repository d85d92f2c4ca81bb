package byhand

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store/mem"
)

// ticking measures once a second, and always gets an answer.
type ticking struct{}

func (ticking) Name() string { return "operator" }

func (ticking) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	for {
		sink(probe.LoadBalancer, probe.Sample{Path: probe.LoadBalancer, Began: time.Now()})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// The whole way: the driver, a person who takes a quarter of an hour for each
// step and once forgets one, holds that are released, and the report of it all.
func TestAMigrationAppliedByAPersonIsCompletedAndReported(t *testing.T) {
	pl := found(t)
	file := plan.Seal(pl, nil)
	synctest.Test(t, func(t *testing.T) {
		var (
			st      mem.Store
			w       = &world{states: []plan.State{pl.Problem.Starts[0].State}, nodes: machines(pl.Problem)}
			ended   []string
			said    []string // what was confirmed
			forgets = "update-control-plane"
		)
		run := func() reconcile.Result {
			// A new process: it knows nothing but what is in the store.
			e := &handoff{Executor: New(Config{Problem: pl.Problem, Look: w.look, Confirmed: said})}
			e.began = func(id string) {
				if do := effects[id]; do != nil && id != forgets {
					time.AfterFunc(15*time.Minute, func() {
						w.change(each(do))
						w.change(func(w *world) { w.renew(rolls[id]) })
					})
				}
			}
			r, err := reconcile.Run(t.Context(), reconcile.Config{Plan: file, Store: &st, Executor: e, Owner: "ada@laptop", Program: "1.0.0", Vantages: []reconcile.Vantage{ticking{}}})
			if err != nil {
				t.Fatal(err)
			}
			ended = append(ended, r.Ended)
			return r
		}
		for range 10 {
			switch r := run(); r.Ended {
			case reconcile.EndedHolding:
				if id, ok := strings.CutPrefix(r.Confirm, "--confirmed "); ok {
					if want := "your turn: prove ports 443 and 3988 from a worker: no look at the cluster shows it, and nobody has said that it is done"; id != "prove" || r.Why != want || len(said) > 0 {
						t.Fatalf("asked for %q: %s; want %s", r.Confirm, r.Why, want)
					}
					said = append(said, id)
					continue
				}
				record, err := reconcile.Current(t.Context(), &st, pl.Problem.Cluster)
				if err != nil {
					t.Fatal(err)
				}
				status, err := record.Status(lock.State{})
				if err != nil {
					t.Fatal(err)
				}
				if _, ok, err := reconcile.ReleaseNext(t.Context(), &st, status, reconcile.Request{By: "bob@desk", At: time.Now()}); !ok || err != nil {
					t.Fatalf("no hold to release: %v", err)
				}
				continue
			case reconcile.EndedStopped:
				if forgets == "" {
					t.Fatalf("stopped: %s %v", r.Why, r.Changed)
				}
				forgets = ""
				continue
			case reconcile.EndedDone:
			default:
				t.Fatalf("ended %+v", r)
			}
			break
		}
		if len(said) == 0 {
			t.Error("a step that no look shows was done without a word of the operator's")
		}
		record, err := reconcile.Current(t.Context(), &st, pl.Problem.Cluster)
		if err != nil {
			t.Fatal(err)
		}
		m, err := report.Migrate(record.Plan, record.Entries)
		if err != nil {
			t.Fatal(err)
		}
		if m.Verdict != report.Pass || len(m.Runs) != len(ended) {
			t.Errorf("%s (%s) after %d runs; want pass after %d: %q\n%s", m.Verdict, m.Why, len(m.Runs), len(ended), ended, m.Text())
		}
		// One worker is the canary, one goes with the autoscaler, and two more and
		// three control-plane nodes are replaced by hand.
		if r := m.Replacements; r.Workers != 3 || r.ControlPlane != 3 || r.Total != 6 || r.MaxPerWorker != 1 {
			t.Errorf("%d workers and %d control-plane nodes replaced, %d in all, at most %d a worker; want 3, 3, 6 and 1", r.Workers, r.ControlPlane, r.Total, r.MaxPerWorker)
		}
		for _, a := range m.Availability {
			if a.Sent < 3600 || a.Failed != 0 {
				t.Errorf("%s from %s: %d sent, %d failed; want some hours of one a second", a.Path, a.Vantage, a.Sent, a.Failed)
			}
		}
		if len(m.Availability) != 1 {
			t.Errorf("%d routes measured; want 1", len(m.Availability))
		}
	})
}

// rolls says which machines a step that is carried out by hand replaces, of those
// of the beginning, and that one worker goes for good meanwhile.
var rolls = map[string][]string{
	"canary":             {"w1"},
	"roll-workers":       {"w2", "w3", "-w4"},
	"roll-control-plane": {"c1", "c2", "c3"},
}

// renew replaces machines; one with a dash only goes.
func (w *world) renew(names []string) {
	for _, name := range names {
		old, only := strings.CutPrefix(name, "-")
		i := slices.IndexFunc(w.nodes, func(n report.Machine) bool { return n.Name == old })
		if only {
			w.nodes = slices.Delete(w.nodes, i, i+1)
		} else {
			w.nodes[i].Name = "new-" + old
		}
	}
}

// machines are three control-plane nodes and four workers, in groups of a plan.
func machines(p plan.Problem) (all []report.Machine) {
	add := func(role cluster.Role, prefix string, n int) {
		i := slices.IndexFunc(p.Groups, func(g plan.Group) bool { return g.Role == role })
		for k := 1; k <= n; k++ {
			all = append(all, report.Machine{Group: p.Groups[i].Name, Name: fmt.Sprint(prefix, k)})
		}
	}
	add(cluster.RoleControlPlane, "c", 3)
	add(cluster.RoleNode, "w", 4)
	return all
}

// handoff tells the test when a person is asked for something.
type handoff struct {
	*Executor
	began func(id string)
}

func (h *handoff) Actions(ctx context.Context, s plan.Planned) ([]reconcile.Action, error) {
	actions, err := h.Executor.Actions(ctx, s)
	for i := range actions {
		do := actions[i].Do
		actions[i].Do = func(ctx context.Context, say func(string)) error {
			h.began(s.ID)
			return do(ctx, say)
		}
	}
	return actions, err
}
