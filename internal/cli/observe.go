package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cloud"
	cloudopen "github.com/muster-dev/muster/internal/cloud/open"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/observe"
)

// observe reads a cluster from the state store and looks at it in its cloud. It
// fails if the spec cannot be read, or if the way to the cloud cannot be right;
// a cloud that refuses or does not answer leaves the rest.
func (f *stateFlags) observe(ctx context.Context, s console.Streams, timeout time.Duration) (*observe.Cluster, error) {
	seen, err := f.stored(ctx, s)
	if err != nil {
		return nil, err
	}
	seen.Cloud, seen.Blind, err = look(ctx, s, seen.Spec, timeout)
	return seen, err
}

// stored reads a cluster from its state store.
func (f *stateFlags) stored(ctx context.Context, s console.Streams) (*observe.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	st, err := f.open(ctx, s)
	if err != nil {
		return nil, err
	}
	return observe.Stored(ctx, st, f.name)
}

// look asks a cluster's cloud. It fails if the way there cannot be right; a cloud
// that refuses or does not answer leaves blind, which says why.
func look(ctx context.Context, s console.Streams, spec *cluster.Cluster, timeout time.Duration) (seen *cloud.Observation, blind string, err error) {
	provider, err := cloudopen.Provider(ctx, spec, cloudopen.Config{Getenv: os.Getenv, Timeout: timeout})
	switch {
	case errors.Is(err, cloud.ErrUsage):
		return nil, "", console.UsageError{Err: err}
	case err != nil:
		return nil, err.Error(), nil
	}
	if console.IsTerminal(s.Err) {
		fmt.Fprintf(s.Err, "muster: looking at %s on %s ...\n", spec.Name, spec.Cloud)
	}
	looking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c := observe.Cluster{Spec: spec}
	if err := c.Look(looking, provider); err != nil {
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		return nil, "", console.UsageError{Err: err}
	}
	return c.Cloud, c.Blind, nil
}
