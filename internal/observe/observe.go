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
	"errors"
	"fmt"
	"slices"

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
	// Configs are the node configurations in the store, by group.
	Configs map[string]describe.NodeConfig
	// Addons are those of the bootstrap channel; nil if it could not be read.
	Addons []audit.Addon
	// Gaps is what the store did not give.
	Gaps []cloud.Gap

	// Cloud is nil if the cloud could not be asked, and then Blind says why.
	Cloud *cloud.Observation
	Blind string
}

// Stored reads what the state store holds.
func Stored(ctx context.Context, st store.Store, name string) (*Cluster, error) {
	kept, err := store.Read(ctx, st, name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Version: kept.KopsVersion, Manifest: kept.Manifest(), Configs: map[string]describe.NodeConfig{}}
	if c.Spec, err = kept.Parse(); err != nil {
		return nil, err
	}
	for _, g := range c.Spec.Groups {
		c.nodeConfig(ctx, st, g)
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

// nodeConfig reads what the nodes of a group read when they boot.
func (c *Cluster) nodeConfig(ctx context.Context, st store.Store, g cluster.Group) {
	dir, ok := map[cluster.Role]string{cluster.RoleControlPlane: "control-plane", cluster.RoleNode: "node", cluster.RoleAPIServer: "apiserver"}[g.Role]
	if !ok {
		return // a bastion has none
	}
	object, err := st.Get(ctx, store.Layout(c.Spec.Name).NodeConfig(dir, g.Name))
	var config describe.NodeConfig
	if err == nil {
		config, err = describe.ReadNodeConfig(object.Data)
	}
	if err != nil {
		c.Gaps = append(c.Gaps, cloud.Gap{What: "node configuration", Subject: g.Name, Why: err.Error()})
		return
	}
	c.Configs[g.Name] = config
}

// channel reads which add-ons the control plane applies.
func (c *Cluster) channel(ctx context.Context, st store.Store) {
	object, err := st.Get(ctx, store.Layout(c.Spec.Name).BootstrapChannel())
	if err == nil {
		c.Addons, err = audit.ReadChannel(object.Data)
	}
	if err != nil {
		c.Gaps = append(c.Gaps, cloud.Gap{What: "add-ons", Subject: c.Spec.Name, Why: err.Error()})
	}
}

// Facts are what package describe makes a description of.
func (c *Cluster) Facts() describe.Facts {
	return describe.Facts{Spec: c.Spec, KopsVersion: c.Version, Seen: c.Cloud, Blind: c.Blind, NodeConfigs: c.Configs, Gaps: c.Gaps}
}

// Audit is what package audit judges, without what only a probe can tell.
func (c *Cluster) Audit() audit.Input {
	in := audit.Input{Spec: c.Spec, Version: c.Version, Cloud: c.Cloud, Store: &audit.Store{
		NodeConfigs: map[string]audit.NodeConfig{}, Addons: c.Addons, Gaps: c.Gaps,
	}}
	for group, config := range c.Configs {
		in.Store.NodeConfigs[group] = audit.NodeConfig{Hash: config.Hash}
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
