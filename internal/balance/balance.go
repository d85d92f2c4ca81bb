// Package balance is the layer-4 load balancer that a node runs for itself: it
// accepts TCP connections, normally on loopback, and joins each to one of the
// API servers in the current endpoint set.
//
// It does not look into what it carries, resolves no names and checks nothing
// by itself. Which servers there are and which of them work comes from outside,
// by [Balancer.Update]; what it learns by dialling goes back out through
// [Config.OnDialFailure].
//
// What callers rely on:
//
//   - a new connection fails only if no server of the set can be reached for as
//     long as Config.ConnectTimeout. A server that hangs costs it
//     Config.StaggerDelay, and one that refuses nothing worth measuring;
//   - a TLS client is joined to a server that has answered it, not to one whose
//     kernel still accepts connections while the program behind it is stuck;
//   - a server that leaves the set loses its connections at once, so that
//     clients reconnect to another instead of waiting for their own timeouts;
//   - a server that drains keeps them until they are quiet, and is rid of them
//     little by little within Config.MoveTimeout;
//   - a set in which everything looks down closes nothing, for then the fault
//     is more likely on this node;
//   - the set is never empty once there is one.
package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// suspectTime is how long after a failed dial a server is dialled last. It
// bridges the time until the health checks have a verdict.
const suspectTime = 2 * time.Second

// Balancer joins clients to servers. Its methods are safe for concurrent use.
type Balancer struct {
	cfg  Config
	dial func(context.Context, time.Time, netip.AddrPort) (net.Conn, error)

	accepted, failed, bytesIn, bytesOut atomic.Uint64

	mu       sync.Mutex // guards all below, and the servers' fields
	set      endpoint.Set
	members  []*server                  // in the order of the set
	servers  map[netip.AddrPort]*server // members of the set, and leavers with connections
	own      map[netip.AddrPort]bool    // where this balancer listens itself
	failures uint64
	outage   outage
	dialTime time.Duration // of dials that succeed, moving average
	loops    map[*loop]struct{}
	moving   chan struct{} // capacity 1; has a token when a server has begun to drain
	changed  chan struct{} // closed and replaced when searches should make a new plan
}

// server is what the balancer knows of one server. Balancer.mu guards it.
type server struct {
	addr     netip.AddrPort
	member   bool      // of the current set
	spared   bool      // no member, but treated as one that drains; see Update
	drains   time.Time // since when it drains, as no member; zero if it does not
	balancer bool
	near     bool
	dialing  int
	links    map[link]struct{}

	total       uint64
	answered    time.Time // when it last answered a client's hello
	failures    uint64
	failing     bool // the last dial failed
	lastError   string
	lastErrorAt time.Time

	bytesIn, bytesOut atomic.Uint64
}

// New returns a Balancer without servers. Until the first Update it resets
// every connection.
func New(cfg Config) *Balancer {
	connect := dial
	if cfg.Dial != nil {
		connect = func(ctx context.Context, until time.Time, addr netip.AddrPort) (net.Conn, error) {
			ctx, cancel := context.WithDeadline(ctx, until)
			defer cancel()
			return cfg.Dial(ctx, addr)
		}
	}
	return &Balancer{
		cfg:     cfg.withDefaults(),
		dial:    connect,
		servers: make(map[netip.AddrPort]*server),
		own:     make(map[netip.AddrPort]bool),
		loops:   make(map[*loop]struct{}),
		moving:  make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
}

// Update replaces the servers and closes the connections of those that left,
// unless the set is isolated. Members keep their connections whatever their
// place. The empty set is refused with endpoint.ErrEmpty and nothing changes.
func (b *Balancer) Update(set endpoint.Set) error {
	if set.Len() == 0 {
		return fmt.Errorf("update balancer %q: %w", b.cfg.Name, endpoint.ErrEmpty)
	}
	b.mu.Lock()
	was := b.set
	b.set = set
	proven := was.Isolated() && !set.Isolated()
	outageOver := proven && b.endOutage()
	for _, s := range b.servers {
		s.member = false
	}
	b.members = nil
	for _, e := range set.Endpoints() {
		s := b.servers[e.Addr]
		if s == nil {
			s = &server{addr: e.Addr, links: make(map[link]struct{})}
			b.servers[e.Addr] = s
		}
		s.member, s.balancer, s.near = true, e.IsBalancer(), e.Near
		b.members = append(b.members, s)
	}
	leaving := b.leavers(proven)
	b.mu.Unlock()

	if outageOver {
		b.logOutageOver()
	}
	if !was.SameAddrs(set) || was.Isolated() != set.Isolated() {
		b.cfg.Logger.Info("servers changed", "from", was, "to", set, "isolated", set.Isolated())
	}
	for addr, links := range leaving {
		b.cfg.Logger.Info("closing connections", "server", addr, "connections", len(links), "reason", "left the set")
		for _, l := range links {
			l.end()
		}
	}
	return nil
}

// leavers decides what becomes of each server's connections, and returns those that end
// now. proven says that before this update none looked alive. Called with mu held.
func (b *Balancer) leavers(proven bool) map[netip.AddrPort][]link {
	draining := b.set.Draining()
	leaving := make(map[netip.AddrPort][]link)
	for addr, s := range b.servers {
		// While none looked alive, connections may have been made to several. That
		// one is proven first does not make the others dead.
		s.spared = !s.member && (s.spared || proven && s.active())
		drains := !s.member && (s.spared || slices.Contains(draining, addr))
		if s.member || !drains {
			s.drains = time.Time{}
		} else if s.drains.IsZero() {
			s.drains = time.Now()
			signal(b.moving)
		}
		if !s.member && !drains && !b.set.Isolated() {
			for l := range s.links {
				leaving[addr] = append(leaving[addr], l)
			}
		}
		b.forgetIfGone(s)
	}
	return leaving
}

// forgetIfGone drops a server that is neither member nor in use. Called with mu
// held.
func (b *Balancer) forgetIfGone(s *server) {
	if !s.member && len(s.links) == 0 && b.servers[s.addr] == s {
		delete(b.servers, s.addr)
	}
}

var (
	errNoSet = errors.New("no server known yet")
	errSelf  = errors.New("every server of the set is this balancer itself")
)

// plan returns the servers in the order to dial them now, and a channel that is
// closed when the plan has changed. It returns no servers while scouts search for this
// client as well. If trusting is set, recent failures do not count.
func (b *Balancer) plan(client net.Conn, trusting bool) ([]*server, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set.Len() == 0 {
		return nil, nil, errNoSet
	}
	if !b.outage.admits(client) {
		return nil, b.changed, nil
	}
	candidates := b.candidates(nil, time.Now(), trusting)
	if len(candidates) == 0 {
		return nil, nil, errSelf
	}
	var servers []*server
	for _, addr := range order(candidates) {
		servers = append(servers, b.servers[addr])
	}
	return servers, b.changed, nil
}

// candidates appends the members as they are now.
func (b *Balancer) candidates(to []candidate, now time.Time, trusting bool) []candidate {
	for _, s := range b.members {
		// Dialling itself, a balancer would use up its file descriptors in a
		// moment.
		if b.own[s.addr] {
			continue
		}
		to = append(to, candidate{
			addr:     s.addr,
			balancer: s.balancer,
			near:     s.near,
			load:     len(s.links) + s.dialing,
			suspect:  !trusting && s.failing && now.Sub(s.lastErrorAt) < suspectTime,
		})
	}
	return to
}

// first returns the first server of a plan made now, and counts it as being dialled. wait
// reports that scouts search for this client as well. If it returns neither, the client
// needs a search of its own.
func (b *Balancer) first(now time.Time) (s *server, wait bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outage.lasts {
		return nil, len(b.outage.scouts) >= maxScouts
	}
	var few [8]candidate
	candidates := b.candidates(few[:0], now, false)
	if len(candidates) == 0 {
		return nil, false
	}
	s = b.servers[candidates[leader(candidates)].addr]
	s.dialing++
	return s, false
}

// replace puts one link in the place of another.
func (b *Balancer) replace(s *server, was, is link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(s.links, was)
	s.links[is] = struct{}{}
}

// adopt adds a link to its server. It refuses if the server left the set while it was
// being dialled.
func (b *Balancer) adopt(s *server, l link) bool {
	b.mu.Lock()
	if b.servers[s.addr] != s || !s.member && !b.set.Isolated() {
		b.mu.Unlock()
		return false
	}
	s.links[l] = struct{}{}
	s.total++
	b.outage.joined = time.Now()
	outageOver := b.outage.lasts && b.endOutage()
	b.mu.Unlock()
	if outageOver {
		b.logOutageOver()
	}
	return true
}

// release removes a link from its server.
func (b *Balancer) release(s *server, l link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(s.links, l)
	b.forgetIfGone(s)
}

// InUse reports whether a client is joined to a server or about to be.
func (b *Balancer) InUse(addr netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.servers[addr]
	return s != nil && len(s.links)+s.dialing > 0
}

// Answered returns when a server last answered a client's TLS hello; zero if it never
// did since it became a member.
func (b *Balancer) Answered(addr netip.AddrPort) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.servers[addr]; s != nil {
		return s.answered
	}
	return time.Time{}
}
