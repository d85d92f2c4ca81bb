package health

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// verdict is what the probes of one target have come to.
type verdict struct {
	health endpoint.Health
	reason string
	rtt    time.Duration
	mute   time.Time // since when nothing came back; zero if something did
}

// publish notes a verdict on t, unless t is no target any more.
//
// That a server fell silent is held back until another has been heard since, or
// all have fallen silent: then the fault is more likely here, and whoever reads
// the results must learn of all at once. Otherwise a node whose network fails
// for a moment, or a control plane too busy to answer any check in time, would
// lose one server after the other, each with all its connections (k3s#10240).
func (c *Checker) publish(t *target, v verdict) {
	c.mu.Lock()
	if c.targets[t.addr] != t {
		c.mu.Unlock()
		return
	}
	delete(c.held, t)
	news := false
	if v.health == endpoint.Down && !v.mute.IsZero() && c.results[t.addr].Health != endpoint.Down {
		c.held[t] = v
	} else {
		news = c.note(t, v)
	}
	news = c.release() || news
	c.mu.Unlock()
	if news {
		signal(c.changed)
		signal(c.wake)
	}
}

// heard notes that a target let something be heard.
func (c *Checker) heard(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.targets[t.addr] == t {
		c.spoke[t.addr] = time.Now()
	}
}

// answered reports whether a target has answered somebody else's hello since.
func (c *Checker) answered(t *target, since time.Time) bool {
	return c.cfg.Answered != nil && c.cfg.Answered(t.addr).After(since)
}

// askOthers has the servers beside t checked now, for whether they answer decides
// what it means that t does not; waiting for their turn would lengthen every
// silence by as much.
func (c *Checker) askOthers(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, other := range c.targets {
		if other != t && c.results[addr].Health != endpoint.Down {
			signal(other.due)
		}
	}
}

// release notes the verdicts that need not be held back any more. Called with mu
// held, as is note.
func (c *Checker) release() (news bool) {
	silent := 0
	for _, t := range c.targets {
		if _, held := c.held[t]; held || c.results[t.addr].Health == endpoint.Down {
			silent++
		}
	}
	for t, v := range c.held {
		alone := true
		for a, at := range c.spoke {
			alone = alone && (a == t.addr || at.Before(v.mute))
		}
		if !alone || silent == len(c.targets) {
			delete(c.held, t)
			news = c.note(t, v) || news
		}
	}
	return news
}

// note makes a verdict the result and reports whether it is news.
func (c *Checker) note(t *target, v verdict) (news bool) {
	was := c.results[t.addr]
	is := Result{Health: v.health, Reason: v.reason, Since: was.Since, RTT: cmp.Or(v.rtt, was.RTT)}
	if v.health != was.Health {
		is.Since = time.Now()
	}
	c.results[t.addr] = is
	if v.health == was.Health && v.reason == was.Reason {
		return false
	}
	level := slog.LevelInfo
	if v.health.Away() {
		level = slog.LevelWarn
	}
	c.cfg.Logger.Log(context.Background(), level, "server health",
		"server", t.addr, "from", was.Health, "to", v.health, "reason", v.reason)
	return true
}
