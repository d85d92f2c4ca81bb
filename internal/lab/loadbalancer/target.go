package loadbalancer

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// target is one backend of one listener.
type target struct {
	addr   netip.AddrPort
	ctx    context.Context // ends when the target is removed, and with the listener
	cancel context.CancelFunc
	active atomic.Int64  // connections open now
	served atomic.Uint64 // connections opened so far
	lost   atomic.Uint64 // connections that it did not accept

	mu     sync.Mutex
	health health // guarded by mu
}

func newTarget(ctx context.Context, addr netip.AddrPort) *target {
	t := &target{addr: addr, health: health{state: Initial, since: time.Now()}}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

func (t *target) state() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.health.state
}

// watch checks a target's health until the target is removed.
func (l *listener) watch(t *target) {
	defer t.cancel()
	for {
		check := l.check.Load()
		next := time.NewTimer(check.interval)
		err := check.run(t.ctx, t.addr)
		if t.ctx.Err() != nil {
			next.Stop()
			return
		}
		l.record(t, check, err)
		select {
		case <-next.C:
		case <-t.ctx.Done():
			next.Stop()
			return
		}
	}
}

// record adds the result of a check to the target's health.
func (l *listener) record(t *target, check *check, outcome error) {
	t.mu.Lock()
	previous := t.health
	t.health = previous.next(outcome, time.Now(), check.healthyThreshold, check.unhealthyThreshold)
	current := t.health
	t.mu.Unlock()
	if current.state != previous.state {
		l.log.Info("load balancer target changed", "listener", l.name, "target", t.addr,
			"from", previous.state, "to", current.state, "reason", current.reason)
	}
}
