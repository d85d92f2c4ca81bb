package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	cloudopen "github.com/muster-dev/muster/internal/cloud/open"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/describe"
	"github.com/muster-dev/muster/internal/store"
)

// seen is a cluster as its state store and its cloud show it.
type seen struct {
	spec    *cluster.Cluster
	version string // of kOps, or empty
	configs map[string]describe.NodeConfig
	gaps    []cloud.Gap // what the store did not give

	manifest []byte        // the spec as the store has it
	addons   []audit.Addon // of the bootstrap channel; nil if it could not be read

	cloud *cloud.Observation // nil if the cloud could not be asked
	blind string             // and then, why
}

// observe reads a cluster from the state store and looks at it in its cloud. It
// fails if the spec cannot be read, or if the way to the cloud cannot be right;
// a cloud that refuses or does not answer leaves the rest.
func (f *stateFlags) observe(ctx context.Context, s streams, timeout time.Duration) (*seen, error) {
	st, err := f.open(ctx, s)
	if err != nil {
		return nil, err
	}
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, err := store.Read(reading, st, f.name)
	if err != nil {
		return nil, err
	}
	out := &seen{version: stored.KopsVersion, configs: map[string]describe.NodeConfig{}}
	if out.spec, err = stored.Parse(); err != nil {
		return nil, err
	}
	out.manifest = stored.Manifest()
	for _, g := range out.spec.Groups {
		out.nodeConfig(reading, st, g)
	}
	out.channel(reading, st)
	out.cloud, out.blind, err = look(ctx, s, out.spec, timeout)
	return out, err
}

// look asks a cluster's cloud. It fails if the way there cannot be right; a cloud
// that refuses or does not answer leaves blind, which says why.
func look(ctx context.Context, s streams, spec *cluster.Cluster, timeout time.Duration) (seen *cloud.Observation, blind string, err error) {
	provider, err := cloudopen.Provider(ctx, spec, cloudopen.Config{Getenv: os.Getenv, Timeout: timeout})
	if err == nil {
		if isTerminal(s.err) {
			fmt.Fprintf(s.err, "muster: looking at %s on %s ...\n", spec.Name, spec.Cloud)
		}
		looking, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		seen, err = provider.Observe(looking)
	}
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case errors.Is(err, cloud.ErrUsage):
		return nil, "", usageError{err}
	case err != nil:
		return nil, err.Error(), nil
	}
	return seen, "", nil
}

// nodeConfig reads what the nodes of a group read when they boot.
func (o *seen) nodeConfig(ctx context.Context, st store.Store, g cluster.Group) {
	dir, ok := map[cluster.Role]string{cluster.RoleControlPlane: "control-plane", cluster.RoleNode: "node", cluster.RoleAPIServer: "apiserver"}[g.Role]
	if !ok {
		return // a bastion has none
	}
	object, err := st.Get(ctx, store.Layout(o.spec.Name).NodeConfig(dir, g.Name))
	var config describe.NodeConfig
	if err == nil {
		config, err = describe.ReadNodeConfig(object.Data)
	}
	if err != nil {
		o.gaps = append(o.gaps, cloud.Gap{What: "node configuration", Subject: g.Name, Why: err.Error()})
		return
	}
	o.configs[g.Name] = config
}

// channel reads which add-ons the control plane applies.
func (o *seen) channel(ctx context.Context, st store.Store) {
	object, err := st.Get(ctx, store.Layout(o.spec.Name).BootstrapChannel())
	if err == nil {
		o.addons, err = audit.ReadChannel(object.Data)
	}
	if err != nil {
		o.gaps = append(o.gaps, cloud.Gap{What: "add-ons", Subject: o.spec.Name, Why: err.Error()})
	}
}

// facts are what package describe makes a description of.
func (o *seen) facts() describe.Facts {
	return describe.Facts{Spec: o.spec, KopsVersion: o.version, Seen: o.cloud, Blind: o.blind, NodeConfigs: o.configs, Gaps: o.gaps}
}
