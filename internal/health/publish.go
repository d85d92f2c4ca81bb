package health

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// verdict is the conclusion from the probes of one target.
type verdict struct {
	health      endpoint.Health
	reason      string
	rtt         time.Duration
	silentSince time.Time // start of the first probe without any response; zero if the last had one
}

// publishVerdict makes a verdict on t its result, unless t is no longer a target.
//
// The verdict that a server has fallen silent is withheld until another server has been heard since, or all have
// fallen silent: then the fault is more likely here, and all must become Down at once. Otherwise a node whose network
// fails for a moment, or a control plane too busy to answer any check in time, would lose one server after the other,
// each with all its connections (k3s#10240).
func (c *Checker) publishVerdict(t *target, v verdict) {
	c.mu.Lock()
	if c.targets[t.addr] != t {
		c.mu.Unlock()
		return
	}
	delete(c.withheld, t)
	news := false
	if v.health == endpoint.Down && !v.silentSince.IsZero() && c.results[t.addr].Health != endpoint.Down {
		c.withheld[t] = v
	} else {
		news = c.setResult(t, v)
	}
	news = c.releaseWithheld() || news
	c.mu.Unlock()
	if news {
		signal(c.changed)
		signal(c.wake)
	}
}

// markHeard records that something came from a target now.
func (c *Checker) markHeard(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.targets[t.addr] == t {
		c.lastHeard[t.addr] = time.Now()
	}
}

// answeredOthers reports whether a target has answered another client's ClientHello after since; see Config.Answered.
func (c *Checker) answeredOthers(t *target, since time.Time) bool {
	return c.cfg.Answered != nil && c.cfg.Answered(t.addr).After(since)
}

// probeOthers makes the other servers be checked now: whether they answer decides what the silence of t means, and
// waiting for their next tick would delay that verdict.
func (c *Checker) probeOthers(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, other := range c.targets {
		if other != t && c.results[addr].Health != endpoint.Down {
			signal(other.due)
		}
	}
}

// releaseWithheld publishes the verdicts that need not be withheld any more, and reports whether a result changed.
// The caller holds mu.
func (c *Checker) releaseWithheld() (news bool) {
	silent := 0
	for _, t := range c.targets {
		if _, withheld := c.withheld[t]; withheld || c.results[t.addr].Health == endpoint.Down {
			silent++
		}
	}
	for t, v := range c.withheld {
		alone := true
		for a, at := range c.lastHeard {
			alone = alone && (a == t.addr || at.Before(v.silentSince))
		}
		if !alone || silent == len(c.targets) {
			delete(c.withheld, t)
			news = c.setResult(t, v) || news
		}
	}
	return news
}

// setResult makes a verdict the result of t, logs a change, and reports whether there was one. The caller holds mu.
func (c *Checker) setResult(t *target, v verdict) (news bool) {
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
