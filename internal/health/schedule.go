package health

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// unusedEvery is how many ticks pass between checks of a server that is up and not in use.
const unusedEvery = 3

// tick starts the checks that are due. All start together, because most of the cost of a check on an idle machine is
// waking up. Whether a target is in use is looked at on every tick: once it is, it must be checked like any other.
func (c *Checker) tick() {
	unused := c.unused()
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, t := range c.targets {
		if unused[addr] && t.skipped+1 < unusedEvery {
			t.skipped++
			continue
		}
		t.skipped = 0
		signal(t.due)
	}
}

// unused returns the targets that are up and not in use.
func (c *Checker) unused() map[netip.AddrPort]bool {
	if c.cfg.Unused == nil {
		return nil
	}
	unused := make(map[netip.AddrPort]bool)
	for addr, r := range c.Results() {
		unused[addr] = r.Health == endpoint.Up && c.cfg.Unused(addr)
	}
	return unused
}

// interval returns the time until the next tick.
func (c *Checker) interval() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	down := 0
	for _, r := range c.results {
		if r.Health == endpoint.Down {
			down++
		}
	}
	if down > 0 && down == len(c.results) {
		return jitter(c.cfg.Interval / 8)
	}
	return jitter(c.cfg.Interval)
}

// jitter shortens d by up to a tenth, so that the checks of a thousand nodes that started together drift apart. It
// never lengthens d, because the bounds in the package comment count on that.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}
