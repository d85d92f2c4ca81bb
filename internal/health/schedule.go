package health

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// unusedTurns is at which of its turns a server that is up and not in use is asked.
const unusedTurns = 3

// turn has the targets checked that are due. They are checked together, since most
// of what a check costs an idle machine is waking up. A target that is not in use
// lets its turn pass, but is looked at each time: once it is in use, its death must
// be seen as soon as any other's.
func (c *Checker) turn() {
	unused := c.unused()
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, t := range c.targets {
		if unused[addr] && t.passed+1 < unusedTurns {
			t.passed++
			continue
		}
		t.passed = 0
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

// interval is the time between two turns.
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
		return jittered(c.cfg.Interval / 8)
	}
	return jittered(c.cfg.Interval)
}

// jittered shortens d by up to a tenth, so that the checks of a thousand nodes
// that started together drift apart. It never lengthens: the promise of how
// soon a dead server is found counts on that.
func jittered(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}
