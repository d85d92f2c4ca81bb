package balance

import (
	"context"
	"net"
	"time"
)

// maxScouts is how many clients search at a time during an outage. The others wait for
// the scouts or the health checks to find a server: a thousand clients that each dial
// every server would keep one that comes back from serving any of them.
const maxScouts = 16

// outage is a time in which no client finds a server. Balancer.mu guards it.
type outage struct {
	lasts  bool
	joined time.Time             // when a client was last joined to a server
	scouts map[net.Conn]struct{} // clients that search
}

// admits reports whether a client may search.
func (o *outage) admits(client net.Conn) bool {
	if _, is := o.scouts[client]; is || !o.lasts {
		return true
	}
	if len(o.scouts) >= maxScouts {
		return false
	}
	if o.scouts == nil {
		o.scouts = make(map[net.Conn]struct{})
	}
	o.scouts[client] = struct{}{}
	return true
}

// noServerFound records that a search which began then failed with every server. That
// begins an outage, unless another client was joined to a server since.
func (b *Balancer) noServerFound(began time.Time, reason error) {
	b.mu.Lock()
	begins := !b.outage.lasts && b.outage.joined.Before(began)
	b.outage.lasts = b.outage.lasts || begins
	set := b.set
	b.mu.Unlock()
	if begins {
		b.cfg.Logger.Error("no server can be reached; clients wait", "servers", set, "reason", reason)
	}
}

// endOutage wakes up every client that waits, and reports whether there was an outage.
// Called with mu held.
func (b *Balancer) endOutage() (was bool) {
	was = b.outage.lasts
	b.outage.lasts = false
	close(b.changed)
	b.changed = make(chan struct{})
	for l := range b.loops {
		l.wake()
	}
	return was
}

func (b *Balancer) inOutage() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage.lasts
}

func (b *Balancer) logOutageOver() { b.cfg.Logger.Info("a server can be reached again") }

// searchEnded makes room for another scout if the client was one.
func (b *Balancer) searchEnded(client net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.outage.scouts, client)
}

// waitToRetry waits until it is time for another search or the servers have changed, and
// reports whether there is time for one.
func (b *Balancer) waitToRetry(ctx context.Context, until time.Time, wait time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(min(wait, time.Until(until)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-changed:
	}
	return time.Now().Before(until)
}
