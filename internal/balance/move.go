package balance

import (
	"context"
	"time"
)

const (
	moveTick = 200 * time.Millisecond
	// moveParts is in how many parts a server's connections are closed: all at
	// once would send all its clients to the others in one moment.
	moveParts = 25
	// quietFor is how long nothing may have passed over a connection for it to
	// be closed without anybody missing it, if the server spoke last; and
	// silentFor if the client did, who may be waiting for an answer.
	quietFor  = time.Second
	silentFor = 5 * time.Second
)

// move closes the connections of servers that drain, a few at a time and the
// quiet ones first, until ctx ends.
func (b *Balancer) move(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.moving:
		}
		tick := time.NewTicker(moveTick)
		for more := true; more && ctx.Err() == nil; {
			more = b.moveSome(time.Now())
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		tick.Stop()
	}
}

// moveSome closes what is due and reports whether any server still drains.
func (b *Balancer) moveSome(now time.Time) (more bool) {
	var closing []link
	b.mu.Lock()
	for _, s := range b.servers {
		if s.drains.IsZero() {
			continue
		}
		more = more || len(s.links) > 0
		late := now.Sub(s.drains) >= b.cfg.MoveTimeout
		room := len(s.links)/moveParts + 1
		for l := range s.links {
			if late || room > 0 && quiet(l) {
				closing = append(closing, l)
				room--
			}
		}
	}
	b.mu.Unlock()
	for _, l := range closing {
		l.end()
	}
	if len(closing) > 0 {
		b.cfg.Logger.Debug("closing connections", "connections", len(closing), "reason", "their server drains")
	}
	return more
}

// activeFor is how long ago an active server last sent something.
const activeFor = time.Second

// active reports whether a server has sent something a moment ago. Called with mu held.
func (s *server) active() bool {
	for l := range s.links {
		if _, fromServer, ok := l.idle(); ok && fromServer < activeFor {
			return true
		}
	}
	return false
}

// quiet reports whether the link can be closed without anybody missing it.
func quiet(l link) bool {
	toServer, fromServer, ok := l.idle()
	if !ok {
		return false
	}
	least := min(toServer, fromServer)
	return least >= silentFor || least >= quietFor && fromServer <= toServer
}

// signal puts a token into a channel of one, if there is none.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
