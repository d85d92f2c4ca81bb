package reconcile

import (
	"context"

	"github.com/muster-dev/muster/internal/probe"
)

// Vantage is a place from which the API is probed throughout a run: the operator's
// machine, a worker, a lab. It only measures; the availability gate judges.
type Vantage interface {
	// Name identifies it to people and in the report. It is stable across runs:
	// "operator", "worker nodes-a/i-0b5".
	Name() string
	// Watch measures until ctx ends and passes every sample to sink, possibly from
	// several goroutines. It returns nil once ctx has ended, and an error if it
	// could not start or continue, which counts as not measured. It has removed
	// whatever it deployed by the time it returns.
	Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error
}
