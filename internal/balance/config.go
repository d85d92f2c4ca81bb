package balance

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Config says how a Balancer works. The zero value is good for API servers.
// Times that are zero or negative take their default.
type Config struct {
	// Name stands in logs and errors, for nodes with several balancers.
	Name string

	// Dial opens a TCP connection; it must return soon after the context ends.
	// Nil asks the system.
	Dial func(context.Context, netip.AddrPort) (net.Conn, error)

	// StaggerDelay is how long a dial may hang before the next server is
	// dialled as well (RFC 8305). Default 250 ms. Shorter dials two servers on
	// ordinary jitter; longer is felt by every client of a dead server.
	StaggerDelay time.Duration

	// HelloTimeout is how long a client's TLS hello is waited for. The hello is sent
	// to servers until one answers, so that a client is never joined to one whose
	// kernel alone still works. A client that sends nothing for so long, or something
	// else, is joined to the first server that accepts the connection. Default 50 ms,
	// which clients of protocols in which the server speaks first lose; on Linux they
	// lose a second, since the kernel holds back a connection on which nothing was
	// sent (TCP_DEFER_ACCEPT). Negative joins every client at once.
	HelloTimeout time.Duration

	// AttemptTimeout bounds each dial together with the answer to the hello. A search
	// that found no server is repeated with twice as much. Default 2 s.
	AttemptTimeout time.Duration

	// ConnectTimeout bounds the search for a server for one client, after
	// which the client's connection is reset. Default 9 s: Kubernetes' own
	// clients give up a TLS handshake after 10 s, and one that gives up by itself
	// may leave a handshake behind that a server just back spends its time on.
	ConnectTimeout time.Duration

	// UserTimeout is how long a server may leave data or keep-alive probes
	// without acknowledgement, or data unread, before the kernel breaks the
	// connection. Default 3 s, granularity 1 s; Linux only, elsewhere the
	// keep-alive probes alone count. It is the last line: normally the set
	// changes first.
	UserTimeout time.Duration

	// MoveTimeout is how long connections to a server that drains may go on.
	// Those that are quiet are closed before, a few at a time. Default 30 s; an
	// API server closes its own after a minute.
	MoveTimeout time.Duration

	// DrainTimeout is how long open connections may go on after Run was told
	// to end. Default 500 ms.
	DrainTimeout time.Duration

	// Logger receives changes of state once each, and single connections at
	// debug level. Nil discards.
	Logger *slog.Logger

	// OnDialFailure, if set, is told of each dial that failed or was overtaken
	// after hanging for StaggerDelay. It must not block.
	OnDialFailure func(server netip.AddrPort, err error)

	// OnDialed, if set, is told of each server that a client was joined to and
	// how long the dial took. It must not block.
	OnDialed func(server netip.AddrPort, took time.Duration)
}

func (c Config) withDefaults() Config {
	positive := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	positive(&c.StaggerDelay, 250*time.Millisecond)
	positive(&c.AttemptTimeout, 2*time.Second)
	if c.HelloTimeout == 0 {
		c.HelloTimeout = 50 * time.Millisecond
	}
	positive(&c.ConnectTimeout, 9*time.Second)
	positive(&c.UserTimeout, 3*time.Second)
	positive(&c.MoveTimeout, 30*time.Second)
	positive(&c.DrainTimeout, 500*time.Millisecond)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Name != "" {
		c.Logger = c.Logger.With("balancer", c.Name)
	}
	return c
}
