package statestore

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
	"github.com/muster-dev/muster/internal/plan"
)

// CloudTimeout bounds what a command asks of a cloud, unless its flags say otherwise.
const CloudTimeout = 2 * time.Minute

// Observe reads a cluster from the state store and looks at it in its cloud. It
// fails if the spec cannot be read, or if credentials or endpoint cannot be
// right; a cloud that refuses or does not answer leaves the rest.
func (f *Flags) Observe(ctx context.Context, s console.Streams, timeout time.Duration) (*observe.Cluster, error) {
	seen, err := f.Stored(ctx, s)
	if err != nil {
		return nil, err
	}
	seen.Cloud, seen.Blind, err = Look(ctx, s, seen.Spec, timeout)
	return seen, err
}

// Stored reads a cluster from its state store.
func (f *Flags) Stored(ctx context.Context, s console.Streams) (*observe.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	st, err := f.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	return observe.Stored(ctx, st, f.Name)
}

// Look asks a cluster's cloud. It fails if credentials or endpoint cannot be right; for
// a cloud that refuses or does not answer, blind says why there is no observation.
func Look(ctx context.Context, s console.Streams, spec *cluster.Cluster, timeout time.Duration) (seen *cloud.Observation, blind string, err error) {
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

// Problem states what to plan for, and which facts that rests on.
func Problem(seen *observe.Cluster, ask plan.Options) (plan.Problem, []plan.Fact, error) {
	problem, facts, err := seen.Problem(ask)
	if errors.Is(err, cloud.ErrUsage) {
		err = console.UsageError{Err: err}
	}
	return problem, facts, err
}
