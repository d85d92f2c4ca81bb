// Package health asks API servers whether they are ready and says which are.
//
// A [Checker] asks every target over HTTPS once an interval, on a connection
// that it keeps, and again at once when somebody reports that a connection to
// it failed. One that is up and that this node does not use is asked every
// third interval. The certificate is verified against the cluster's own authority
// and server name, so an address that somebody else answers on is down.
//
// The package does not decide which servers are used: package endpoint does,
// and it also knows what it means when all of them look down.
//
// What callers rely on of servers in use, with the default times:
//
//   - a server that vanishes without a word is down within 2 s, one that accepts
//     connections and says nothing within 2.5 s, one that refuses them within
//     1.5 s; one that says it is not ready is draining at the next check;
//   - no single lost probe, closed connection or report makes a server down;
//   - servers that fall silent together are down together, never one by one;
//   - an answer of any kind that shows a working server, such as 401, is up.
package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// Result is what the checks of one server have shown.
type Result struct {
	// Health is Unknown until the first verdict.
	Health endpoint.Health
	// Reason says why in a few words, for people.
	Reason string
	// Since is when Health took its value.
	Since time.Time
	// RTT is how long the last answer took from request to status line.
	RTT time.Duration
}

// Checker checks a changing set of servers. Its methods are safe for concurrent
// use; Run may be called once.
type Checker struct {
	cfg     Config
	prober  *prober
	wake    chan struct{} // the targets changed, or all are down
	changed chan struct{}

	mu      sync.Mutex
	targets map[netip.AddrPort]*target
	results map[netip.AddrPort]Result    // same keys as targets
	spoke   map[netip.AddrPort]time.Time // when a target last let anything be heard
	held    map[*target]verdict          // see publish
}

// New returns a Checker without targets. It fails if cfg is not usable.
func New(cfg Config) (*Checker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ask, err := http.NewRequest(http.MethodGet, "https://"+cfg.ServerName+cfg.Path, nil)
	if err != nil {
		return nil, fmt.Errorf("health check: server name %q and path %q: %w", cfg.ServerName, cfg.Path, err)
	}
	ask.Header.Set("User-Agent", "muster-health")
	var written bytes.Buffer
	if err := ask.Write(&written); err != nil {
		return nil, fmt.Errorf("health check: server name %q and path %q: %w", cfg.ServerName, cfg.Path, err)
	}
	return &Checker{
		cfg: cfg,
		prober: &prober{
			dial: cfg.Dial,
			wait: cfg.Timeout * 2 / 5,
			tls: &tls.Config{
				ServerName:           cfg.ServerName,
				RootCAs:              cfg.Roots,
				GetClientCertificate: cfg.ClientCertificate,
				MinVersion:           tls.VersionTLS12,
			},
			ask:     ask,
			written: written.Bytes(),
			path:    cfg.Path,
		},
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		targets: make(map[netip.AddrPort]*target),
		results: make(map[netip.AddrPort]Result),
		spoke:   make(map[netip.AddrPort]time.Time),
		held:    make(map[*target]verdict),
	}, nil
}

// Run checks until ctx ends and then returns nil, all checks ended.
func (c *Checker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stops := make(map[*target]context.CancelFunc)
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	next := time.Now().Add(c.interval())
	turns := time.NewTimer(time.Until(next))
	defer turns.Stop()
	for {
		wanted := c.wanted()
		for t, stop := range stops {
			if wanted[t.addr] != t {
				stop()
				delete(stops, t)
			}
		}
		for _, t := range wanted {
			if stops[t] != nil {
				continue
			}
			ctx, stop := context.WithCancel(ctx)
			stops[t] = stop
			wg.Go(func() { t.run(ctx, c) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-turns.C:
			c.turn()
		case <-c.wake:
		}
		// Once every server is down, the next turn comes sooner than was planned.
		now, wait := time.Now(), c.interval()
		if !now.Before(next) || now.Add(wait).Before(next) {
			next = now.Add(wait)
			turns.Reset(wait)
		}
	}
}

func (c *Checker) wanted() map[netip.AddrPort]*target {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.targets)
}

// SetTargets replaces the servers to check. New ones are checked at once and
// are Unknown until then; those that stay keep their result; the results of
// those that go are forgotten. Addresses that cannot be dialled are ignored.
func (c *Checker) SetTargets(addrs []netip.AddrPort) {
	c.mu.Lock()
	old := c.targets
	c.targets = make(map[netip.AddrPort]*target, len(addrs))
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if !a.IsValid() || a.Port() == 0 {
			continue
		}
		if t := old[a]; t != nil {
			c.targets[a] = t
			continue
		}
		if c.targets[a] == nil {
			c.targets[a] = newTarget(a, c.cfg.Fall, c.cfg.Rise)
			c.results[a] = Result{Reason: "not checked yet", Since: time.Now()}
		}
	}
	maps.DeleteFunc(c.results, func(a netip.AddrPort, _ Result) bool { return c.targets[a] == nil })
	maps.DeleteFunc(c.spoke, func(a netip.AddrPort, _ time.Time) bool { return c.targets[a] == nil })
	maps.DeleteFunc(c.held, func(t *target, _ verdict) bool { return c.targets[t.addr] != t })
	c.mu.Unlock()
	signal(c.wake)
}

// Report tells that a connection to addr failed with err. It is evidence, not a
// verdict: the server is checked now, over a new connection. Reports about
// servers that are no targets, or known to be down, change nothing.
func (c *Checker) Report(addr netip.AddrPort, err error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	c.mu.Lock()
	t := c.targets[addr]
	c.mu.Unlock()
	if t == nil {
		return
	}
	c.cfg.Logger.Debug("connection failed, checking", "server", addr, "error", err)
	signal(t.reported)
}

// Results returns what is known of every target.
func (c *Checker) Results() map[netip.AddrPort]Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.results)
}

// Changed returns a channel for one reader. It yields after a Health or a
// Reason changed, once for any number of changes since it was last read.
func (c *Checker) Changed() <-chan struct{} { return c.changed }

// signal makes ch readable if it is not already.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
