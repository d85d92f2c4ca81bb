package health

import (
	"context"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// recheckPause is the least time between the starts of two probes of one server
// when the first one left a doubt or somebody reported a failed connection.
const recheckPause = 150 * time.Millisecond

// target checks one server. What is not said to be otherwise belongs to the goroutine in run.
type target struct {
	addr     netip.AddrPort
	reported chan struct{} // holds one report that no probe has answered yet
	due      chan struct{} // holds one wish for a check
	passed   int           // turns that were let pass; guarded by Checker.mu

	judge judge
	kept  *link
	mute  time.Time // when the first probe began that nobody answered; zero if the last was answered
}

func newTarget(addr netip.AddrPort, fall, rise int) *target {
	return &target{
		addr:     addr,
		reported: make(chan struct{}, 1),
		due:      make(chan struct{}, 1),
		judge:    judge{fall: fall, rise: rise},
	}
}

// run checks until ctx ends and publishes every verdict to c.
func (t *target) run(ctx context.Context, c *Checker) {
	defer t.forget()
	for {
		select {
		case <-t.reported:
			t.forget()
		default:
		}
		began := time.Now()
		o, kept, rtt := c.prober.probe(ctx, t.addr, t.kept, t.judge.patience(t.kept != nil, c.cfg.Timeout))
		t.kept = kept
		if ctx.Err() != nil {
			return
		}
		if o.unheard && c.answered(t, began) {
			// It is busy with others, who got what the probe waited for.
			t.mute = time.Time{}
			c.heard(t)
			sleep(ctx, recheckPause)
			continue
		}
		t.listen(o, began, c)
		switch t.judge.note(o) {
		case stale:
			t.forget()
		case doubtful:
			c.askOthers(t)
			sleep(ctx, recheckPause-time.Since(began))
		case settled:
			c.publish(t, verdict{t.judge.health, t.judge.reason, rtt, t.mute})
			if t.rest(ctx) {
				sleep(ctx, recheckPause-time.Since(began))
			}
		}
	}
}

// listen notes whether anything came back at all. A refused connection counts:
// it shows that the way there and back is open.
func (t *target) listen(o outcome, began time.Time, c *Checker) {
	switch {
	case !o.timedOut:
		t.mute = time.Time{}
		c.heard(t)
	case t.mute.IsZero():
		t.mute = began
	}
}

// forget drops the kept connection, so that the next probe opens a new one.
func (t *target) forget() {
	if t.kept != nil {
		t.kept.close()
		t.kept = nil
	}
}

// rest waits until a check is due or ctx ends. It returns early, with true, when a
// connection to a server that is not down is reported as failed; the kept
// connection is then no witness. What is down already keeps its pace: reports
// come with every client that knocks, and a server that is struggling back up
// must not be asked more often for that.
func (t *target) rest(ctx context.Context) (reported bool) {
	reports := t.reported
	if t.judge.health == endpoint.Down {
		reports = nil
	}
	select {
	case <-ctx.Done():
	case <-t.due:
	case <-reports:
		t.forget()
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
