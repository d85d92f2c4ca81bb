package health

import (
	"context"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// recheckDelay is the least time between the starts of two probes of one server, if the first was inconclusive or a
// failed connection was reported.
const recheckDelay = 150 * time.Millisecond

// target checks one server. Fields belong to the goroutine of run unless their comments say otherwise.
type target struct {
	addr     netip.AddrPort
	reported chan struct{} // capacity 1: a failed connection was reported and not checked yet
	due      chan struct{} // capacity 1: a check is due
	skipped  int           // ticks since its last check; guarded by Checker.mu

	judge       judge
	keptConn    *link
	silentSince time.Time // start of the first probe without any response; zero if the last had one
}

func newTarget(addr netip.AddrPort, fall, rise int) *target {
	return &target{
		addr:     addr,
		reported: make(chan struct{}, 1),
		due:      make(chan struct{}, 1),
		judge:    judge{fall: fall, rise: rise},
	}
}

// run checks the server until ctx ends and publishes every verdict to c.
func (t *target) run(ctx context.Context, c *Checker) {
	defer t.closeKept()
	for {
		select {
		case <-t.reported:
			t.closeKept()
		default:
		}
		began := time.Now()
		o, keptConn, rtt := c.prober.probe(ctx, t.addr, t.keptConn, t.judge.probeTimeout(t.keptConn != nil, c.cfg.Timeout))
		t.keptConn = keptConn
		if ctx.Err() != nil {
			return
		}
		if o.noConn && c.answeredOthers(t, began) {
			// It is busy, and has answered others meanwhile.
			t.silentSince = time.Time{}
			c.markHeard(t)
			sleep(ctx, recheckDelay)
			continue
		}
		t.trackSilence(o, began, c)
		switch t.judge.observe(o) {
		case stale:
			t.closeKept()
		case doubtful:
			c.probeOthers(t)
			sleep(ctx, recheckDelay-time.Since(began))
		case settled:
			c.publishVerdict(t, verdict{t.judge.health, t.judge.reason, rtt, t.silentSince})
			if t.waitDue(ctx) {
				sleep(ctx, recheckDelay-time.Since(began))
			}
		}
	}
}

// trackSilence updates silentSince. A refused connection is no silence: it shows that packets get there and back.
func (t *target) trackSilence(o outcome, began time.Time, c *Checker) {
	switch {
	case !o.timedOut:
		t.silentSince = time.Time{}
		c.markHeard(t)
	case t.silentSince.IsZero():
		t.silentSince = began
	}
}

// closeKept closes the kept connection, so that the next probe opens a new one.
func (t *target) closeKept() {
	if t.keptConn != nil {
		t.keptConn.close()
		t.keptConn = nil
	}
}

// waitDue waits until a check is due or ctx ends. It returns early, with true and the kept connection closed, when a
// failed connection is reported, unless the server is down already: every client that tries it causes a report, and a
// server that is struggling to come back must not be checked more often for that.
func (t *target) waitDue(ctx context.Context) (reported bool) {
	reports := t.reported
	if t.judge.health == endpoint.Down {
		reports = nil
	}
	select {
	case <-ctx.Done():
	case <-t.due:
	case <-reports:
		t.closeKept()
		return true
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
