// Package observe reads a cluster from the two places that know it: the state
// store and its cloud. What audit, describe, plan and reconcile are told of a
// cluster comes from here, so that they never disagree about what was seen.
//
// It reads and judges nothing. What could not be read is a gap, never an empty
// answer; only a spec that cannot be read is an error.
package observe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/describe"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/store"
)

// Cluster is a cluster as its state store and its cloud show it.
type Cluster struct {
	Spec     *cluster.Cluster
	Manifest []byte // the spec as the store has it
	Version  string // of the kOps that applied it last; empty if none has
	// Configs are the node configurations in the store, by group, as far as they
	// say what is asked of them.
	Configs map[string]describe.NodeConfig
	// raw are the same objects, by group. One that is missing is not there, unless
	// a gap says that it could not be read.
	raw map[string][]byte
	// Addons are those of the bootstrap channel; nil if it could not be read.
	Addons []audit.Addon
	// Gaps is what the store did not give.
	Gaps []cloud.Gap

	// Cloud is nil if the cloud could not be asked, and then Blind says why.
	Cloud *cloud.Observation
	Blind string
}

// Stored reads what the state store holds. It fails if the spec cannot be read or
// the store not be listed; another object that cannot be read is a gap.
func Stored(ctx context.Context, st store.Store, name string) (*Cluster, error) {
	kept, err := store.Read(ctx, st, name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Version: kept.KopsVersion, Manifest: kept.Manifest(), Configs: map[string]describe.NodeConfig{}, raw: map[string][]byte{}}
	if c.Spec, err = kept.Parse(); err != nil {
		return nil, err
	}
	if err := c.nodeConfigs(ctx, st); err != nil {
		return nil, err
	}
	c.channel(ctx, st)
	return c, nil
}

// Look looks at the cluster in its cloud. It fails if the way there cannot be
// right or ctx has ended; a cloud that refuses or does not answer leaves Blind.
func (c *Cluster) Look(ctx context.Context, p cloud.Provider) error {
	seen, err := p.Observe(ctx)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, cloud.ErrUsage):
		return err
	case err != nil:
		c.Cloud, c.Blind = nil, err.Error()
	default:
		c.Cloud, c.Blind = seen, ""
	}
	return nil
}

// storeReaders bounds how many objects are read at a time.
const storeReaders = 8

// nodeConfigs reads what nodes read when they boot. The list is complete, so that
// a group without an object has none.
func (c *Cluster) nodeConfigs(ctx context.Context, st store.Store) error {
	keys, err := st.List(ctx, store.Layout(c.Spec.Name).NodeConfigs())
	if err != nil {
		return fmt.Errorf("list node configurations of %s: %w", c.Spec.Name, err)
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return path.Base(key) != "nodeupconfig.yaml" })
	objects := make([][]byte, len(keys))
	faults := make([]error, len(keys))
	g, reading := errgroup.WithContext(ctx)
	g.SetLimit(storeReaders)
	for i, key := range keys {
		g.Go(func() error {
			object, err := st.Get(reading, key)
			objects[i], faults[i] = object.Data, err
			return reading.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read node configurations of %s: %w", c.Spec.Name, err)
	}
	for i, key := range keys {
		group := path.Base(path.Dir(key)) // igconfig/ROLE/GROUP/nodeupconfig.yaml
		if faults[i] != nil {
			c.Gaps = append(c.Gaps, cloud.Gap{What: nodeConfiguration, Subject: group, Why: faults[i].Error()})
			continue
		}
		c.raw[group] = objects[i]
		if config, err := describe.ReadNodeConfig(objects[i]); err == nil {
			c.Configs[group] = config
		}
	}
	return nil
}

// nodeConfiguration is what a gap is about.
const nodeConfiguration = "node configuration"

// channel reads which add-ons the control plane applies.
func (c *Cluster) channel(ctx context.Context, st store.Store) {
	key := store.Layout(c.Spec.Name).BootstrapChannel()
	object, err := st.Get(ctx, key)
	if err == nil {
		c.Addons, err = audit.ReadChannel(object.Data)
	}
	if err != nil {
		c.Gaps = append(c.Gaps, cloud.Gap{What: "add-ons", Subject: key, Why: err.Error()})
	}
}

// Facts are what package describe makes a description of. That a group has no
// node configuration that can be understood is a gap there.
func (c *Cluster) Facts() describe.Facts {
	gaps := slices.Clone(c.Gaps)
	for _, g := range c.Spec.Groups {
		unread := func(gap cloud.Gap) bool { return gap.What == nodeConfiguration && gap.Subject == g.Name }
		if g.Role == cluster.RoleBastion || slices.ContainsFunc(gaps, unread) {
			continue // a bastion has none
		}
		err := errors.New("the state store holds none")
		if data, ok := c.raw[g.Name]; ok {
			_, err = describe.ReadNodeConfig(data)
		}
		if err != nil {
			gaps = append(gaps, cloud.Gap{What: nodeConfiguration, Subject: g.Name, Why: err.Error()})
		}
	}
	return describe.Facts{Spec: c.Spec, KopsVersion: c.Version, Seen: c.Cloud, Blind: c.Blind, NodeConfigs: c.Configs, Gaps: gaps}
}

// Audit is what package audit judges, without what only a probe can tell.
func (c *Cluster) Audit() audit.Input {
	in := audit.Input{Spec: c.Spec, Version: c.Version, Cloud: c.Cloud, Store: &audit.Store{
		NodeConfigs: map[string]audit.NodeConfig{}, Addons: c.Addons, Gaps: c.Gaps,
	}}
	for group, data := range c.raw {
		sum := sha256.Sum256(data)
		in.Store.NodeConfigs[group] = audit.NodeConfig{Hash: base64.StdEncoding.EncodeToString(sum[:])}
	}
	// The spec was read already; what the audit asks beside it may be missing.
	if m, err := audit.ReadManifest(c.Manifest); err == nil {
		in.Manifest = m
	}
	return in
}

// controllerAddon is kOps's name of the add-on that publishes names.
const controllerAddon = "dns-controller.addons.k8s.io"

// Controller says whether dns-controller is deployed by what the channel holds.
func (c *Cluster) Controller() cloud.Answer {
	switch {
	case c.Addons == nil:
		return cloud.Unknown
	case slices.ContainsFunc(c.Addons, func(a audit.Addon) bool { return a.Name == controllerAddon && !a.Empty }):
		return cloud.Yes
	}
	return cloud.No
}

// Problem states what to plan for, and which facts that rests on. A version of
// kOps that cannot be read is of kind [cloud.ErrUsage].
func (c *Cluster) Problem(ask plan.Ask) (plan.Problem, []plan.Fact, error) {
	if c.Cloud == nil {
		return plan.Problem{}, nil, fmt.Errorf("plan %s: its machines could not be seen: %s; plan -f takes its spec's word for a first look", c.Spec.Name, c.Blind)
	}
	release, err := cluster.ParseRelease(cmp.Or(c.Version, cluster.Release136.String()))
	if err != nil {
		return plan.Problem{}, nil, fmt.Errorf("%w: %w", err, cloud.ErrUsage)
	}
	stored := plan.Stored{Rendered: map[string]bool{}, Controller: c.Controller()}
	for group, config := range c.Configs {
		stored.Rendered[group] = !config.Gossip
	}
	problem, err := plan.FromObservation(c.Spec, release, stored, c.Cloud, ask)
	if err != nil {
		return problem, nil, err
	}
	if len(problem.Groups) == 0 {
		return problem, nil, errors.New("no group of the cluster was observed")
	}
	return problem, plan.Facts(c.Spec.Name, c.Manifest, c.Version, stored, c.Cloud), nil
}
