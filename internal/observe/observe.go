// Package observe reads a cluster from its state store and its cloud, for audit, describe, plan and reconcile, so that they
// agree on what was observed.
//
// It evaluates nothing. What could not be read is a gap, never an empty result; only an unreadable spec is an error.
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
	// Configs are the node configurations in the store that could be decoded, by group.
	Configs map[string]describe.NodeConfig
	// raw are the node configurations undecoded, by group. A missing one does not exist, unless there is a gap about it.
	raw map[string][]byte
	// Addons are those of the bootstrap channel; nil if it could not be read.
	Addons []audit.Addon
	// Gaps is what could not be read from the store.
	Gaps []cloud.Gap

	// Cloud is nil if the cloud could not be observed; Blind then has the reason.
	Cloud *cloud.Observation
	Blind string
}

// Stored reads the state store. It fails if the spec cannot be read or the store cannot be listed; any other unreadable
// object is a gap.
func Stored(ctx context.Context, st store.Store, name string) (*Cluster, error) {
	stored, err := store.Read(ctx, st, name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Version: stored.KopsVersion, Manifest: stored.Manifest(), Configs: map[string]describe.NodeConfig{}, raw: map[string][]byte{}}
	if c.Spec, err = stored.Parse(); err != nil {
		return nil, err
	}
	if err := c.nodeConfigs(ctx, st); err != nil {
		return nil, err
	}
	c.channel(ctx, st)
	return c, nil
}

// Look observes the cluster in its cloud. It fails if the provider is misconfigured or ctx was cancelled; a cloud that
// denies access or does not respond leaves Blind.
func (c *Cluster) Look(ctx context.Context, p cloud.Provider) error {
	observation, err := p.Observe(ctx)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, cloud.ErrUsage):
		return err
	case err != nil:
		c.Cloud, c.Blind = nil, err.Error()
	default:
		c.Cloud, c.Blind = observation, ""
	}
	return nil
}

// concurrentReads bounds the objects that are read at a time.
const concurrentReads = 8

// nodeConfigs reads the nodes' boot configurations. The list is complete: a group without an object has none.
func (c *Cluster) nodeConfigs(ctx context.Context, st store.Store) error {
	keys, err := st.List(ctx, store.Layout(c.Spec.Name).NodeConfigs())
	if err != nil {
		return fmt.Errorf("list node configurations of %s: %w", c.Spec.Name, err)
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return path.Base(key) != "nodeupconfig.yaml" })
	objects := make([][]byte, len(keys))
	errs := make([]error, len(keys))
	g, readCtx := errgroup.WithContext(ctx)
	g.SetLimit(concurrentReads)
	for i, key := range keys {
		g.Go(func() error {
			object, err := st.Get(readCtx, key)
			objects[i], errs[i] = object.Data, err
			return readCtx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read node configurations of %s: %w", c.Spec.Name, err)
	}
	for i, key := range keys {
		group := path.Base(path.Dir(key)) // igconfig/ROLE/GROUP/nodeupconfig.yaml
		if errs[i] != nil {
			c.Gaps = append(c.Gaps, cloud.Gap{What: nodeConfiguration, Subject: group, Why: errs[i].Error()})
			continue
		}
		c.raw[group] = objects[i]
		if config, err := describe.ReadNodeConfig(objects[i]); err == nil {
			c.Configs[group] = config
		}
	}
	return nil
}

// nodeConfiguration is the What of gaps about boot configurations.
const nodeConfiguration = "node configuration"

// channel reads the add-ons that the control plane applies.
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

// Facts returns the input of package describe. A group without a readable node configuration is a gap there.
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

// Audit returns the input of package audit, without the results of probes.
func (c *Cluster) Audit() audit.Input {
	in := audit.Input{Spec: c.Spec, Version: c.Version, Cloud: c.Cloud, Store: &audit.Store{
		NodeConfigs: map[string]audit.NodeConfig{}, Addons: c.Addons, Gaps: c.Gaps,
	}}
	for group, data := range c.raw {
		sum := sha256.Sum256(data)
		in.Store.NodeConfigs[group] = audit.NodeConfig{Hash: base64.StdEncoding.EncodeToString(sum[:]), Gossip: c.Configs[group].Gossip}
	}
	// The spec has been parsed; the audit's other fields of the manifest are optional.
	if m, err := audit.ReadManifest(c.Manifest); err == nil {
		in.Manifest = m
	}
	return in
}

// controllerAddon is the name of dns-controller's add-on.
const controllerAddon = "dns-controller.addons.k8s.io"

// Controller reports whether the channel deploys dns-controller.
func (c *Cluster) Controller() cloud.Answer {
	switch {
	case c.Addons == nil:
		return cloud.Unknown
	case slices.ContainsFunc(c.Addons, func(a audit.Addon) bool { return a.Name == controllerAddon && !a.Empty }):
		return cloud.Yes
	}
	return cloud.No
}

// Problem returns the planning problem and the facts that it is based on. An unknown version of kOps is an error of kind
// [cloud.ErrUsage].
func (c *Cluster) Problem(ask plan.Options) (plan.Problem, []plan.Fact, error) {
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
