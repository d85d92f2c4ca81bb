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
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

	// HelloTimeout is how long a client's TLS hello is waited for. It is said
	// to servers until one answers, so that a client is never joined to one that
	// only its kernel speaks for. A client that says nothing for so long, or
	// something else, is joined to the first server that accepts the connection.
	// Default 50 ms, which is what clients of other protocols pay if they wait
	// for the server to speak; negative joins all at once.
	HelloTimeout time.Duration

	// AttemptTimeout bounds each dial, and the answer to the hello. A search
	// that found nobody is made again with twice as much. Default 2 s.
	AttemptTimeout time.Duration

	// ConnectTimeout bounds the search for a server for one client, after
	// which the client's connection is reset. Default 10 s.
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
	positive(&c.ConnectTimeout, 10*time.Second)
	positive(&c.UserTimeout, 3*time.Second)
	positive(&c.MoveTimeout, 30*time.Second)
	positive(&c.DrainTimeout, 500*time.Millisecond)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Name != "" {
		c.Logger = c.Logger.With("balancer", c.Name)
	}
	return c
}

// Balancer joins clients to servers. Its methods are safe for concurrent use.
type Balancer struct {
	cfg  Config
	dial func(context.Context, time.Time, netip.AddrPort) (net.Conn, error)

	bytesIn, bytesOut atomic.Uint64

	mu       sync.Mutex // guards all below, and the servers' fields
	set      endpoint.Set
	servers  map[netip.AddrPort]*server // members of the set, and leavers with connections
	own      map[netip.AddrPort]bool    // where this balancer listens itself
	accepted uint64
	failed   uint64
	failures uint64
	cut      bool          // the last search for a server found none
	usual    time.Duration // how long a dial that succeeds takes, smoothed
	moving   chan struct{} // has a token when a server has begun to drain
	news     chan struct{} // closed when there are servers that searches should try
}

// server is what the balancer knows of one server. Balancer.mu guards it.
type server struct {
	addr     netip.AddrPort
	member   bool      // of the current set
	drains   time.Time // since when it drains, as no member; zero if it does not
	balancer bool
	near     bool
	dialing  int
	links    map[*link]struct{}

	total       uint64
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
		moving:  make(chan struct{}, 1),
		news:    make(chan struct{}),
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
	if was.Isolated() && !set.Isolated() {
		close(b.news)
		b.news = make(chan struct{})
	}
	for _, s := range b.servers {
		s.member = false
	}
	for _, e := range set.Endpoints() {
		s := b.servers[e.Addr]
		if s == nil {
			s = &server{addr: e.Addr, links: make(map[*link]struct{})}
			b.servers[e.Addr] = s
		}
		s.member, s.balancer, s.near = true, e.IsBalancer(), e.Near
	}
	draining := set.Draining()
	leaving := make(map[netip.AddrPort][]*link)
	for addr, s := range b.servers {
		drains := !s.member && slices.Contains(draining, addr)
		if s.member || !drains {
			s.drains = time.Time{}
		} else if s.drains.IsZero() {
			s.drains = time.Now()
			signal(b.moving)
		}
		if s.member || drains {
			b.forgetIfGone(s)
			continue
		}
		if !set.Isolated() {
			for l := range s.links {
				leaving[addr] = append(leaving[addr], l)
			}
		}
		b.forgetIfGone(s)
	}
	b.mu.Unlock()

	if !was.SameAddrs(set) || was.Isolated() != set.Isolated() {
		b.cfg.Logger.Info("servers changed", "from", was, "to", set, "isolated", set.Isolated())
	}
	for addr, links := range leaving {
		b.cfg.Logger.Info("closing connections", "server", addr, "connections", len(links), "reason", "left the set")
		for _, l := range links {
			l.end(nil)
		}
	}
	return nil
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
// closed when there is a better plan. Where trusting, recent failures do not
// count.
func (b *Balancer) plan(trusting bool) ([]*server, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set.Len() == 0 {
		return nil, nil, errNoSet
	}
	now := time.Now()
	var candidates []candidate
	for _, addr := range b.set.Addrs() {
		// Dialling itself, a balancer would use up its file descriptors in a
		// moment.
		if b.own[addr] {
			continue
		}
		s := b.servers[addr]
		candidates = append(candidates, candidate{
			addr:     addr,
			balancer: s.balancer,
			near:     s.near,
			load:     len(s.links) + s.dialing,
			suspect:  !trusting && s.failing && now.Sub(s.lastErrorAt) < suspectTime,
		})
	}
	if len(candidates) == 0 {
		return nil, nil, errSelf
	}
	var servers []*server
	for _, addr := range order(candidates) {
		servers = append(servers, b.servers[addr])
	}
	return servers, b.news, nil
}

// endAll ends the links whose client a listener accepted.
func (b *Balancer) endAll(ln net.Listener) {
	var all []*link
	b.mu.Lock()
	for _, s := range b.servers {
		for l := range s.links {
			if l.listener == ln {
				all = append(all, l)
			}
		}
	}
	b.mu.Unlock()
	for _, l := range all {
		l.end(nil)
	}
}

// adopt takes a link into the books. It refuses if the server left the set
// while it was being dialled.
func (b *Balancer) adopt(s *server, l *link) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.servers[s.addr] != s || !s.member && !b.set.Isolated() {
		return false
	}
	s.links[l] = struct{}{}
	s.total++
	return true
}

// release takes a link out of the books.
func (b *Balancer) release(s *server, l *link) {
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

// Stats is what a Balancer has done since it was made.
type Stats struct {
	// Servers has the members in the order of the set, then servers that left
	// and still have connections. A server that comes back starts at zero.
	Servers []ServerStats

	Active       int    // clients joined to a server now
	Accepted     uint64 // connections from clients
	Failed       uint64 // clients for whom no server was found
	DialFailures uint64 // dials that failed or were overtaken after hanging
	BytesIn      uint64 // from clients to servers; see ServerStats
	BytesOut     uint64 // from servers to clients; see ServerStats
}

// ServerStats is one server's part of Stats.
type ServerStats struct {
	Addr         netip.AddrPort
	Active       int    // connections now
	Total        uint64 // connections ever
	DialFailures uint64
	// BytesIn and BytesOut are counted every 256 KiB and when a connection
	// ends, not as the bytes pass: the kernel carries them.
	BytesIn, BytesOut uint64
	LastError         string // of the last dial that failed; "" for none
	LastErrorAt       time.Time
}

// Stats returns the counters of now.
func (b *Balancer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Stats{
		Accepted:     b.accepted,
		Failed:       b.failed,
		DialFailures: b.failures,
		BytesIn:      b.bytesIn.Load(),
		BytesOut:     b.bytesOut.Load(),
	}
	for _, s := range b.servers {
		out.Active += len(s.links)
		out.Servers = append(out.Servers, ServerStats{
			Addr:         s.addr,
			Active:       len(s.links),
			Total:        s.total,
			DialFailures: s.failures,
			BytesIn:      s.bytesIn.Load(),
			BytesOut:     s.bytesOut.Load(),
			LastError:    s.lastError,
			LastErrorAt:  s.lastErrorAt,
		})
	}
	place := make(map[netip.AddrPort]int)
	for i, addr := range b.set.Addrs() {
		place[addr] = i
	}
	slices.SortFunc(out.Servers, func(x, y ServerStats) int {
		px, memberX := place[x.Addr]
		py, memberY := place[y.Addr]
		return cmp.Or(compareBool(!memberX, !memberY), cmp.Compare(px, py), x.Addr.Compare(y.Addr))
	})
	return out
}
