package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	cloudopen "github.com/muster-dev/muster/internal/cloud/open"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/describe"
)

// seen is a cluster as its state store and its cloud show it.
type seen struct {
	*stored
	nodes map[string]describe.NodeConfig // the configurations, as far as they could be read

	cloud *cloud.Observation // nil if the cloud could not be asked
	blind string             // and then, why
}

// observe reads a cluster from the state store and looks at it in its cloud. It
// fails if the spec cannot be read, or if the way to the cloud cannot be right;
// a cloud that refuses or does not answer leaves the rest.
func (f *stateFlags) observe(ctx context.Context, s streams, timeout time.Duration) (*seen, error) {
	kept, err := f.stored(ctx, s)
	if err != nil {
		return nil, err
	}
	out := &seen{stored: kept, nodes: map[string]describe.NodeConfig{}}
	for _, g := range out.spec.Groups {
		out.nodeConfig(g)
	}
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

// nodeConfig reads the configuration of a group.
func (o *seen) nodeConfig(g cluster.Group) {
	if g.Role == cluster.RoleBastion || slices.ContainsFunc(o.gaps, func(gap cloud.Gap) bool { return gap.Subject == g.Name }) {
		return // a bastion has none
	}
	data, ok := o.configs[g.Name]
	err := errors.New("the state store holds none")
	var config describe.NodeConfig
	if ok {
		config, err = describe.ReadNodeConfig(data)
	}
	if err != nil {
		o.gaps = append(o.gaps, cloud.Gap{What: "node configuration", Subject: g.Name, Why: err.Error()})
		return
	}
	o.nodes[g.Name] = config
}

// facts are what package describe makes a description of.
func (o *seen) facts() describe.Facts {
	return describe.Facts{Spec: o.spec, KopsVersion: o.version, Seen: o.cloud, Blind: o.blind, NodeConfigs: o.nodes, Gaps: o.gaps}
}
