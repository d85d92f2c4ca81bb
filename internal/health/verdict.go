package health

import (
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// kind is what a single probe showed.
type kind uint8

const (
	answered kind = iota // it works
	declined             // it responded that it wants no new work
	impostor             // something else responded: wrong certificate or unknown path
	silent               // no response: refused, broken or timed out
)

// outcome is the result of one probe.
type outcome struct {
	kind     kind
	reason   string
	kept     bool // over a connection that had worked before
	timedOut bool // silent because of a timeout
	noConn   bool // timed out before the connection was established
}

// step is what to do next after a probe.
type step uint8

const (
	settled  step = iota // publish the verdict and wait for the next check
	doubtful             // probe again shortly
	stale                // probe again at once, over a new connection
)

// judge turns the outcomes of one server's probes into its health. It has no
// clock and does no I/O. Two rules are not obvious:
//
// A kept connection can show that a server is up but never that it is down. Servers close idle connections, and
// behind a load balancer a kept connection stays with one machine although a new one would reach another.
//
// The probes before the deciding one have a shorter timeout, so that a server that vanished is detected in less than
// two timeouts. The deciding one always has the full timeout.
type judge struct {
	fall, rise int

	health endpoint.Health
	reason string
	fails  int // silent in a row
	rises  int // answered in a row
}

// observe updates the health with the outcome of a probe and returns what to do next.
func (j *judge) observe(o outcome) step {
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

// probeTimeout returns how long the next probe may take.
func (j *judge) probeTimeout(kept bool, timeout time.Duration) time.Duration {
	deciding := !kept && (j.health == endpoint.Down || j.fails+1 >= j.fall)
	if deciding {
		return timeout
	}
	return timeout * 2 / 5
}
