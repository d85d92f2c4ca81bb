package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab/proc"
)

// startAll starts everything, control plane first, and returns once every worker has called the API by name.
func (l *Lab) startAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.startTimeout())
	defer cancel()
	if err := l.writeSecrets(); err != nil {
		return err
	}
	layout := l.Layout()
	if err := l.addNamespaces(ctx, layout); err != nil {
		return err
	}
	if l.cfg.Kubernetes.Real() {
		if err := l.startEtcd(ctx); err != nil {
			return err
		}
	}
	l.exposed = l.cfg.Start != cluster.Gossip // no lock needed: nothing runs yet
	if err := l.StartLoadBalancer(ctx); err != nil {
		return err
	}
	var starts errgroup.Group
	for _, n := range layout.ControlPlane() {
		starts.Go(func() error {
			m, err := l.machine(n.Name)
			if err != nil {
				return err
			}
			m.want(l.controlPlanePrograms()...)
			m.discovery = l.cfg.Start != cluster.Gossip
			return l.PowerOn(ctx, n.Name)
		})
	}
	if err := starts.Wait(); err != nil {
		return err
	}
	for _, n := range layout.Workers() {
		starts.Go(func() error { return l.startWorker(ctx, n.Name) })
	}
	if err := starts.Wait(); err != nil {
		return err
	}
	if l.cfg.Bare {
		return nil
	}
	return l.awaitWorkers(ctx)
}

// controlPlanePrograms returns the initial programs of a control-plane node.
func (l *Lab) controlPlanePrograms() []Program {
	switch {
	case l.cfg.Start == cluster.None:
		return []Program{l.apiServer(), Agent}
	case l.cfg.Start == cluster.Hybrid && l.legacy():
		return []Program{l.apiServer(), Peer, Agent} // a peer in protokube's place serves no workers
	default:
		return []Program{l.apiServer(), Peer}
	}
}

// startWorker starts a worker with its initial programs.
func (l *Lab) startWorker(ctx context.Context, name string) error {
	m, err := l.machine(name)
	if err != nil {
		return err
	}
	if l.kopsWorkers() {
		return l.PowerOn(ctx, name)
	}
	first := Peer
	if l.cfg.Start != cluster.Gossip {
		first = Agent
		if err := l.writeToken(m); err != nil {
			return err
		}
	}
	m.want(first)
	if !l.cfg.Bare {
		m.want(first, Kubelet)
	}
	return l.PowerOn(ctx, name)
}

// awaitWorkers waits until the by-name path of every worker works, except of those created without one.
func (l *Lab) awaitWorkers(ctx context.Context) error {
	for _, n := range l.Layout().Workers() {
		if l.kopsWorkers() && l.bootOf(n.Group).Lives == cloud.BootName {
			continue
		}
		m, err := l.machine(n.Name)
		if err != nil {
			return err
		}
		began := time.Now()
		err = poll(ctx, func() (bool, error) {
			if err := m.endedProgram(); err != nil {
				return false, err
			}
			o, err := l.Observe(n.Name)
			return err == nil && o.Streak["name"] >= 3, err
		})
		if err != nil {
			return fmt.Errorf("worker %s has no path to the API after %v: %w%s", n.Name, time.Since(began).Round(pollInterval), err, m.tail())
		}
	}
	return nil
}

// pollInterval is how often poll asks.
const pollInterval = 50 * time.Millisecond

// errEnded makes poll give up: a process that has ended by itself is not started again.
var errEnded = errors.New("ended")

// checkRuns returns an error that makes poll give up if the process has ended.
func checkRuns(p *proc.Process) error {
	state := p.State()
	if state == nil {
		return nil
	}
	return fmt.Errorf("it %w, %v", errEnded, state)
}

// poll calls ask until it returns true, an error that wraps errEnded, or ctx ends; then the error includes ask's
// last one.
func poll(ctx context.Context, ask func() (bool, error)) error {
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		if errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pollInterval):
		}
	}
}
