package balance

import (
	"context"
	"net"
	"time"
)

// scouts is how many clients search at a time while no server can be reached. The
// others wait for what these find, or the health checks: a thousand clients that each
// knock at every server would keep one that comes back from serving any of them.
const scouts = 16

// outage is the time in which no client finds a server. Balancer.mu guards it.
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
	if len(o.scouts) >= scouts {
		return false
	}
	if o.scouts == nil {
		o.scouts = make(map[net.Conn]struct{})
	}
	o.scouts[client] = struct{}{}
	return true
}

// foundNobody notes that a search which began then failed with every server. It is no
// outage if somebody else was more lucky meanwhile.
func (b *Balancer) foundNobody(began time.Time, reason error) {
	b.mu.Lock()
	begins := !b.outage.lasts && b.outage.joined.Before(began)
	b.outage.lasts = b.outage.lasts || begins
	set := b.set
	b.mu.Unlock()
	if begins {
		b.cfg.Logger.Error("no server can be reached; clients wait", "servers", set, "reason", reason)
	}
}

// over ends an outage, has everybody search who waits, and reports whether there was
// an outage. Called with mu held.
func (b *Balancer) over() (was bool) {
	was = b.outage.lasts
	b.outage.lasts = false
	close(b.news)
	b.news = make(chan struct{})
	for l := range b.loops {
		l.ring()
	}
	return was
}

// searching reports that an outage lasts.
func (b *Balancer) searching() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage.lasts
}

func (b *Balancer) logOver() { b.cfg.Logger.Info("a server can be reached again") }

// searched notes that a client's search has ended.
func (b *Balancer) searched(client net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.outage.scouts, client)
}

// rest waits between two searches, or for others' to succeed, and reports whether there
// is time for another.
func (b *Balancer) rest(ctx context.Context, until time.Time, wait time.Duration, news <-chan struct{}) bool {
	timer := time.NewTimer(min(wait, time.Until(until)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-news:
	}
	return time.Now().Before(until)
}
