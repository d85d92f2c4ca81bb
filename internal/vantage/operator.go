// Package vantage has the places from which the API is called all the time while
// a plan is carried out on a real cluster: the operator's machine, and pods on
// workers. A lab has its own (package bylab).
//
// It measures and judges nothing. A vantage point is one that always has something
// to measure: what a few workers see is put together, so that it stays one while
// workers come and go.
//
// # Invariants
//
//   - Whatever was put up for measuring is taken down when Watch returns, and what
//     a run that was killed has left is taken down by the next one.
//   - A pod here has no rights in the cluster, no token and no capability.
package vantage

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// Operator is the operator's machine, which reaches the API as kubectl does.
type Operator struct{ cfg probe.Config }

var _ reconcile.Vantage = Operator{}

// The paths that only the operator's machine has.
const (
	Kubeconfig   probe.Path = "kubeconfig"    // the server in the kubeconfig
	ControlPlane probe.Path = "control-plane" // a control-plane node's own address
)

// DefaultEvery is the pause between two probes of a path: over the internet the ten
// a second of a lab are more than it takes.
const DefaultEvery = 500 * time.Millisecond

// tryFor bounds the first look at whether a target is to be reached at all.
const tryFor = 5 * time.Second

// NewOperator tries each target once and returns a vantage point of those that
// answer. What does not is reported as not measured: from an operator's machine a
// private address is no outage. An error means that none answers. every is the
// pause between two probes of a path.
func NewOperator(ctx context.Context, serverName string, roots *x509.CertPool, targets []probe.Target, every time.Duration) (Operator, []report.Unmeasured, error) {
	cfg := probe.Config{ServerName: serverName, Roots: roots, Interval: every, Timeout: tryFor}
	errs := make([]error, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() { errs[i] = cfg.Once(ctx, t) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return Operator{}, nil, err
	}
	cfg.Timeout = 0 // the prober's own
	var missing []report.Unmeasured
	for i, t := range targets {
		if errs[i] == nil {
			cfg.Targets = append(cfg.Targets, t)
			continue
		}
		missing = append(missing, report.Unmeasured{Vantage: fmt.Sprintf("operator, %s at %s", t.Path, where(t)), Why: errs[i].Error()})
	}
	if len(cfg.Targets) == 0 {
		return Operator{}, missing, fmt.Errorf("the API answers this machine on none of %d paths", len(targets))
	}
	return Operator{cfg}, missing, nil
}

func where(t probe.Target) string {
	if t.Addr.IsValid() {
		return t.Addr.String()
	}
	return fmt.Sprintf("%s:%d", t.Host, t.Port)
}

// Name implements [reconcile.Vantage].
func (o Operator) Name() string { return "operator" }

// Watch implements [reconcile.Vantage].
func (o Operator) Watch(ctx context.Context, sink func(probe.Path, probe.Sample)) error {
	return probe.Watch(ctx, o.cfg, func(s probe.Sample) error {
		sink(s.Path, s)
		return nil
	})
}
