// Package vantage implements the vantage points from which the API is probed all the time while a plan is carried out
// on a real cluster: the operator's machine, and pods on workers. A lab has its own (package bylab).
//
// It only measures. A vantage point always has something to measure: samples of a few workers are merged, so that it
// continues while workers come and go.
//
// # Invariants
//
//   - Pods created for measuring are removed when Watch returns, and those left by a run that was killed are removed
//     by the next one.
//   - The pods have no permissions in the cluster, no token and no capabilities.
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

// Paths of the operator's machine only.
const (
	Kubeconfig   probe.Path = "kubeconfig"    // the server in the kubeconfig
	ControlPlane probe.Path = "control-plane" // a control-plane node's own address
)

// DefaultEvery is the pause between two probes of a path. Ten a second, as in a lab, are too many over the internet.
const DefaultEvery = 500 * time.Millisecond

// tryTimeout bounds the first probe of a target.
const tryTimeout = 5 * time.Second

// NewOperator probes each target once and returns a vantage point for those that answer. The others are reported as
// not measured: that an operator's machine cannot reach a private address is no outage. It fails if none answers.
// every is the pause between two probes of a path.
func NewOperator(ctx context.Context, serverName string, roots *x509.CertPool, targets []probe.Target, every time.Duration) (Operator, []report.Unmeasured, error) {
	cfg := probe.Config{ServerName: serverName, Roots: roots, Interval: every, Timeout: tryTimeout}
	errs := make([]error, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() { errs[i] = cfg.Once(ctx, t) })
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return Operator{}, nil, err
	}
	cfg.Timeout = 0 // the prober's default
	var missing []report.Unmeasured
	for i, t := range targets {
		if errs[i] == nil {
			cfg.Targets = append(cfg.Targets, t)
			continue
		}
		missing = append(missing, report.Unmeasured{Vantage: fmt.Sprintf("operator, %s at %s", t.Path, targetText(t)), Why: errs[i].Error()})
	}
	if len(cfg.Targets) == 0 {
		return Operator{}, missing, fmt.Errorf("the API answers this machine on none of %d paths", len(targets))
	}
	return Operator{cfg}, missing, nil
}

func targetText(t probe.Target) string {
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
