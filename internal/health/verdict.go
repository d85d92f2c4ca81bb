package health

import (
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// kind is what a single probe showed.
type kind uint8

const (
	answered kind = iota // the server works
	declined             // it answered and says that it must not be given more work
	impostor             // somebody answered who does not prove to be the server
	silent               // it could not be asked: refused, broken, no answer in time
)

// outcome is one probe as the judge sees it.
type outcome struct {
	kind     kind
	reason   string
	kept     bool // asked over a connection that had worked before
	timedOut bool // silent because the patience ran out
	unheard  bool // timed out before there was a connection to ask over
}

// step is what to do after a probe.
type step uint8

const (
	settled  step = iota // the verdict stands until the next interval
	doubtful             // ask again shortly
	stale                // ask again at once, over a new connection
)

// judge turns the outcomes of one server's probes into its health. It has no
// clock and does no I/O. Two rules are not obvious:
//
// A kept connection speaks for a server but never condemns it. Servers close
// idle connections, and behind a load balancer's address a kept connection
// sticks to one machine although a new one would reach another.
//
// The probes before the deciding one are given little patience, so that a
// server that vanished is found out in less than two timeouts, while the
// deciding one always gets the whole timeout.
type judge struct {
	fall, rise int

	health endpoint.Health
	reason string
	fails  int // silent in a row
	rises  int // answered in a row
}

// note takes the outcome of a probe and says what to do next.
func (j *judge) note(o outcome) step {
	if o.kind == answered {
		j.fails = 0
		j.rises++
		if !j.health.Away() || j.rises >= j.rise {
			j.health, j.reason = endpoint.Up, o.reason
		}
		return settled
	}

	j.rises = 0
	switch {
	case o.kept && (!o.timedOut || j.fails+1 >= j.fall):
		return stale
	case o.kind == declined:
		j.fails = 0
		j.health, j.reason = endpoint.Draining, o.reason
		return settled
	case o.kind == impostor:
		j.fails = 0
		j.health, j.reason = endpoint.Down, o.reason
		return settled
	}

	j.fails++
	if j.health == endpoint.Down || j.fails >= j.fall {
		j.health, j.reason = endpoint.Down, o.reason
		return settled
	}
	return doubtful
}

// patience returns how long the next probe may take.
func (j *judge) patience(kept bool, timeout time.Duration) time.Duration {
	deciding := !kept && (j.health == endpoint.Down || j.fails+1 >= j.fall)
	if deciding {
		return timeout
	}
	return timeout * 2 / 5
}
