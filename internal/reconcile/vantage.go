package reconcile

import (
	"context"

	"github.com/muster-dev/muster/internal/probe"
)

// Vantage is a place from which the API is called all the time while a plan is
// carried out: the operator's machine, a worker, a lab. It measures; what a
// failure means is the availability gate's business.
type Vantage interface {
	// Name says where it is, for people and for the report. It is the same
	// in every run: "operator", "worker nodes-a/i-0b5".
	Name() string
	// Watch measures until ctx ends and tells sink of every probe, from one
	// goroutine or several. It returns nil once ctx has ended and an error if
	// it could not begin or go on, which counts as not measured. Whatever it
	// put up for measuring it has taken down when it returns.
	Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error
}
