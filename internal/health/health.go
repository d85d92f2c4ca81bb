// Package health asks API servers whether they are ready and says which are.
//
// A [Checker] asks every target over HTTPS once an interval, on a connection
// that it keeps, and again at once when somebody reports that a connection to
// it failed. The certificate is verified against the cluster's own authority
// and server name, so an address that somebody else answers on is down.
//
// The package does not decide which servers are used: package endpoint does,
// and it also knows what it means when all of them look down.
//
// What callers rely on, with the default times:
//
//   - a server that vanishes without a word is down within 2 s, one that accepts
//     connections and says nothing within 2.5 s, one that refuses them within
//     1.5 s; one that says it is not ready is draining at the next check;
//   - no single lost probe, closed connection or report makes a server down;
//   - servers that fall silent together are down together, never one by one;
//   - an answer of any kind that shows a working server, such as 401, is up.
package health

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
)

// Config says how a Checker asks. ServerName and Roots are required.
type Config struct {
	// ServerName is the name that every target's certificate must carry, and
	// the Host of each request. Targets are addresses; no name is resolved.
	ServerName string

	// Roots holds the cluster's certificate authority. It is required: the
	// system's roots say nothing about a cluster's API servers.
	Roots *x509.CertPool

	// Path is what is asked for. Default "/readyz". An API server fails it as
	// soon as it begins to shut down, well before it closes connections.
	Path string

	// Interval is the time between the end of one check and the start of the
	// next, at most; each is shortened by up to a tenth, and to the moment at
	// which the other servers are checked. Default 1 s. It bounds how long
	// a change goes unseen. While every server is down it is a quarter of that, or
	// a tenth after a probe that waited in vain: a node that is cut off has
	// nothing else to wait for.
	Interval time.Duration

	// Timeout bounds the probe that decides, connection and TLS included.
	// Default 1 s. Probes before the deciding one get two fifths of it, and so
	// does every connection, which should still be enough for a healthy server
	// far away: a first packet that was lost is sent again only after a second,
	// and a new probe finds out sooner.
	Timeout time.Duration

	// Fall is how many probes in a row must go unanswered before a server is
	// down; the later ones follow at once, not an interval apart. Default 2.
	// Each one more adds two fifths of Timeout to the time to notice.
	Fall int

	// Rise is how many checks in a row a server that was down or draining must
	// answer before it is up. Default 1.
	Rise int

	// ClientCertificate returns the certificate to present to servers that ask
	// for one. Nil presents none: an API server that knows no anonymous user
	// then answers 401 even while it is not ready, and counts as up.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

	// Dial opens a TCP connection; it must return soon after the context ends.
	// Nil uses net.Dialer.
	Dial func(context.Context, netip.AddrPort) (net.Conn, error)

	// Logger receives each change of health once. Nil discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Path = cmp.Or(c.Path, "/readyz")
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.Timeout = cmp.Or(c.Timeout, time.Second)
	c.Fall = cmp.Or(c.Fall, 2)
	c.Rise = cmp.Or(c.Rise, 1)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialTCP(ctx, "tcp", netip.AddrPort{}, addr)
		}
	}
	return c
}

// validate reports every fault of a config whose defaults are filled in.
func (c Config) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("health check: "+format, args...))
		}
	}
	fault(c.ServerName == "", "no server name; give the name in the API servers' certificates")
	fault(c.Roots == nil, "no certificate authority; give the cluster's CA certificate")
	fault(!strings.HasPrefix(c.Path, "/"), "path %q does not start with \"/\"", c.Path)
	fault(c.Interval < 0, "interval %s is negative", c.Interval)
	fault(c.Timeout < 0, "timeout %s is negative", c.Timeout)
	fault(c.Fall < 0, "fall %d is negative", c.Fall)
	fault(c.Rise < 0, "rise %d is negative", c.Rise)
	return errors.Join(errs...)
}

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
	wake    chan struct{} // the targets changed
	changed chan struct{}

	mu      sync.Mutex
	targets map[netip.AddrPort]*target
	results map[netip.AddrPort]Result    // same keys as targets
	spoke   map[netip.AddrPort]time.Time // when a target last let anything be heard
	held    map[*target]verdict          // see publish
	round   time.Time                    // when the targets are checked next; see pause
}

// verdict is what the probes of one target have come to.
type verdict struct {
	health endpoint.Health
	reason string
	rtt    time.Duration
	mute   time.Time // since when nothing came back; zero if something did
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
			ask:  ask,
			path: cfg.Path,
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
		case <-c.wake:
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

// publish notes a verdict on t, unless t is no target any more.
//
// That a server fell silent is held back until another has been heard since, or
// all have fallen silent: then the fault is more likely here, and whoever reads
// the results must learn of all at once. Otherwise a node whose network fails
// for a moment, or a control plane too busy to answer any check in time, would
// lose one server after the other, each with all its connections (k3s#10240).
func (c *Checker) publish(t *target, v verdict) {
	c.mu.Lock()
	if c.targets[t.addr] != t {
		c.mu.Unlock()
		return
	}
	delete(c.held, t)
	news := false
	if v.health == endpoint.Down && !v.mute.IsZero() && c.results[t.addr].Health != endpoint.Down {
		c.held[t] = v
	} else {
		news = c.note(t, v)
	}
	news = c.release() || news
	c.mu.Unlock()
	if news {
		signal(c.changed)
	}
}

// heard notes that a target let something be heard.
func (c *Checker) heard(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.targets[t.addr] == t {
		c.spoke[t.addr] = time.Now()
	}
}

// askOthers has the servers beside t checked now, for whether they answer decides
// what it means that t does not; waiting for their turn would lengthen every
// silence by as much.
func (c *Checker) askOthers(t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, other := range c.targets {
		if other != t && c.results[addr].Health != endpoint.Down {
			signal(other.nudged)
		}
	}
}

// release notes the verdicts that need not be held back any more. Called with mu
// held, as is note.
func (c *Checker) release() (news bool) {
	silent := 0
	for _, t := range c.targets {
		if _, held := c.held[t]; held || c.results[t.addr].Health == endpoint.Down {
			silent++
		}
	}
	for t, v := range c.held {
		alone := true
		for a, at := range c.spoke {
			alone = alone && (a == t.addr || at.Before(v.mute))
		}
		if !alone || silent == len(c.targets) {
			delete(c.held, t)
			news = c.note(t, v) || news
		}
	}
	return news
}

// note makes a verdict the result and reports whether it is news.
func (c *Checker) note(t *target, v verdict) (news bool) {
	was := c.results[t.addr]
	is := Result{Health: v.health, Reason: v.reason, Since: was.Since, RTT: cmp.Or(v.rtt, was.RTT)}
	if v.health != was.Health {
		is.Since = time.Now()
	}
	c.results[t.addr] = is
	if v.health == was.Health && v.reason == was.Reason {
		return false
	}
	level := slog.LevelInfo
	if v.health.Away() {
		level = slog.LevelWarn
	}
	c.cfg.Logger.Log(context.Background(), level, "server health",
		"server", t.addr, "from", was.Health, "to", v.health, "reason", v.reason)
	return true
}

// pause is how long to wait, at most an interval, for the next check of a server.
// Servers are checked together, since most of what a check costs an idle machine is
// waking up.
func (c *Checker) pause(waited bool, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := jittered(c.interval(waited))
	if !now.Before(c.round) {
		c.round = now.Add(most)
	}
	return min(most, c.round.Sub(now))
}

// interval is the time to the next check of a server. Where the last one waited in
// vain it has used up time enough.
//
// Called with mu held.
func (c *Checker) interval(waited bool) time.Duration {
	for _, r := range c.results {
		if r.Health != endpoint.Down {
			return c.cfg.Interval
		}
	}
	if waited {
		return c.cfg.Interval / 10
	}
	return c.cfg.Interval / 4
}

// signal makes ch readable if it is not already.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
