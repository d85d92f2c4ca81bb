// Package health checks which API servers are ready.
//
// A [Checker] sends an HTTPS request to every target once an interval, on a connection that it keeps open, and at
// once when a failed connection to the target is reported. A target that is up and not in use on this node is checked
// every third interval. Certificates are verified against the cluster's own authority and server name, so an address
// where another program answers is down.
//
// The package does not decide which servers to use, nor what to do if all are down: package endpoint does.
//
// What callers rely on, for servers in use and the default times:
//
//   - a server that vanishes is down within 2 s, one that accepts connections but does not respond within 2.5 s, one
//     that refuses them within 1.5 s; one that is not ready is draining at the next check;
//   - no single lost probe, closed connection or report makes a server down;
//   - servers that fall silent together are down together, never one by one;
//   - any response that shows a working server, such as 401, counts as up.
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

// Result is the result of the checks of one server.
type Result struct {
	// Health is Unknown until the first verdict.
	Health endpoint.Health
	// Reason is a short explanation, for people.
	Reason string
	// Since is when Health took its value.
	Since time.Time
	// RTT is the time from the request to the headers of the last response.
	RTT time.Duration
}

// Checker checks a changing set of servers. Its methods are safe for concurrent
// use; Run may be called once.
type Checker struct {
	cfg     Config
	prober  *prober
	wake    chan struct{} // the targets changed, or all are down
	changed chan struct{}

	mu        sync.Mutex
	targets   map[netip.AddrPort]*target
	results   map[netip.AddrPort]Result    // same keys as targets
	lastHeard map[netip.AddrPort]time.Time // when anything last came from a target
	withheld  map[*target]verdict          // verdicts not published yet; see publishVerdict
}

// New returns a Checker without targets. It fails if cfg is not usable.
func New(cfg Config) (*Checker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodGet, "https://"+cfg.ServerName+cfg.Path, nil)
	if err != nil {
		return nil, fmt.Errorf("health check: server name %q and path %q: %w", cfg.ServerName, cfg.Path, err)
	}
	request.Header.Set("User-Agent", "muster-health")
	var requestBytes bytes.Buffer
	if err := request.Write(&requestBytes); err != nil {
		return nil, fmt.Errorf("health check: server name %q and path %q: %w", cfg.ServerName, cfg.Path, err)
	}
	return &Checker{
		cfg: cfg,
		prober: &prober{
			dial:           cfg.Dial,
			connectTimeout: cfg.Timeout * 2 / 5,
			tls: &tls.Config{
				ServerName:           cfg.ServerName,
				RootCAs:              cfg.Roots,
				GetClientCertificate: cfg.ClientCertificate,
				MinVersion:           tls.VersionTLS12,
			},
			request:      request,
			requestBytes: requestBytes.Bytes(),
			path:         cfg.Path,
		},
		wake:      make(chan struct{}, 1),
		changed:   make(chan struct{}, 1),
		targets:   make(map[netip.AddrPort]*target),
		results:   make(map[netip.AddrPort]Result),
		lastHeard: make(map[netip.AddrPort]time.Time),
		withheld:  make(map[*target]verdict),
	}, nil
}

// Run checks the targets until ctx ends, and returns nil once all checks have ended.
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
	ticks := time.NewTimer(time.Until(next))
	defer ticks.Stop()
	for {
		currentTargets := c.currentTargets()
		for t, stop := range stops {
			if currentTargets[t.addr] != t {
				stop()
				delete(stops, t)
			}
		}
		for _, t := range currentTargets {
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
		case <-ticks.C:
			c.tick()
		case <-c.wake:
		}
		// Once every server is down, the next tick is due earlier than planned.
		now, wait := time.Now(), c.interval()
		if !now.Before(next) || now.Add(wait).Before(next) {
			next = now.Add(wait)
			ticks.Reset(wait)
		}
	}
}

func (c *Checker) currentTargets() map[netip.AddrPort]*target {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.targets)
}

// SetTargets replaces the servers to check. New ones are Unknown and are checked at once, remaining ones keep their
// results, and the results of removed ones are dropped. Addresses that cannot be dialled are ignored.
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
	maps.DeleteFunc(c.lastHeard, func(a netip.AddrPort, _ time.Time) bool { return c.targets[a] == nil })
	maps.DeleteFunc(c.withheld, func(t *target, _ verdict) bool { return c.targets[t.addr] != t })
	c.mu.Unlock()
	signal(c.wake)
}

// Report says that a connection to addr failed with err. It only makes the server be checked now, over a new
// connection. Reports about servers that are not targets, or are down already, have no effect.
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

// Results returns the result of every target.
func (c *Checker) Results() map[netip.AddrPort]Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.results)
}

// Changed returns a channel for one reader. It receives a value after a Health or Reason has changed, one for any
// number of changes since the last receive.
func (c *Checker) Changed() <-chan struct{} { return c.changed }

// signal makes ch readable if it is not already.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
