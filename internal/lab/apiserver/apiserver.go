// Package apiserver is the lab's built-in replacement for a Kubernetes API server. It serves, over TLS and in
// Kubernetes' own JSON, exactly what discovery and its rehearsals need:
//
//   - /livez, /readyz and /version;
//   - Nodes: list, get, create, delete, and the status that a kubelet posts, from whose age the Ready condition is
//     derived when a Node is read;
//   - the EndpointSlice of the kubernetes service, by list, get and watch. Like real servers, each keeps a lease in
//     the shared state, and the slice lists those with a valid lease. A server that is killed drops out when its
//     lease expires; one that is stopped removes itself at once.
//
// The servers of one lab share a directory that replaces etcd; see store.
//
// It is no API server otherwise, and says so in its version and its Server header. In particular: reading needs no
// identity, and any client certificate of the client CA may change any Node. There is no other kind of object, no
// discovery document, no paging, no field selector, no patch except of a Node's status, no watch of Nodes. A Node
// keeps its metadata's labels and annotations, its spec, and of its status conditions, addresses and nodeInfo. A
// watch sends the latest state, and may skip states in between. When the Ready condition turns Unknown, a Node's
// resourceVersion does not change. A readyz that fails answers 503 where a real one answers 500. Certificates are
// read once.
//
// What it has in common with the real one and is easily overlooked: a server that becomes unready stays in the
// EndpointSlice, and the slice is never emptied, even if no server is left.
package apiserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	readHeaderTimeout = 5 * time.Second
	requestTimeout    = 10 * time.Second // for reading the request, and for writing the response
	idleTimeout       = time.Minute
	maxHeaderBytes    = 64 << 10
	maxBodyBytes      = 256 << 10
)

// Config configures a server.
type Config struct {
	// Name is the server's name, unique among the servers of one lab: that of its node. Required.
	Name string
	// Listen is the address to serve on. Required, unless Listener is set.
	Listen netip.AddrPort
	// Listener replaces Listen, in tests. Run closes it.
	Listener net.Listener `json:"-"`
	// Advertise is the address in the EndpointSlice. Default: the address served on. All servers of a lab must agree
	// on the port and the IP version, because an EndpointSlice has one of each.
	Advertise netip.AddrPort
	// CertFile and KeyFile are the server's certificate and key, in PEM.
	// Required.
	CertFile, KeyFile string
	// ClientCAFile has the CAs that client certificates must chain to, in PEM. Empty means that no client certificate
	// is accepted, so that nothing can be changed.
	ClientCAFile string
	// StateDir is the existing directory that the servers share. Required.
	StateDir string
	// UnreadyFile makes the server unready while a file of this path exists; its first line is the reason. Empty
	// means none.
	UnreadyFile string
	// LeaseTTL is how long the server stays in the EndpointSlice after its last renewal of the lease; it renews three
	// times as often. Default 3 s; Kubernetes has 15 s.
	LeaseTTL time.Duration
	// NodeTimeout is the age of a Node's last status from which its Ready condition is Unknown. Default 5 s;
	// Kubernetes has 50 s.
	NodeTimeout time.Duration
	// ShutdownDelay is how long the server keeps serving, unready, once it is told to stop. Default 1 s.
	ShutdownDelay time.Duration
	// DrainTimeout bounds the wait for requests at the end. Default 2 s, of which HTTP/2 needs a good part for
	// closing its connections alone.
	DrainTimeout time.Duration
	// BookmarkInterval is the time between the bookmarks of a watch that asks
	// for them. Default 1 s; Kubernetes has about a minute.
	BookmarkInterval time.Duration
	// Version is the version that /version reports, with a suffix that says it is built in. Default v1.36.0.
	Version string
	// Log gets changes of readiness and of the EndpointSlice. Nil discards.
	Log *slog.Logger `json:"-"`
}

func (c *Config) setDefaults() {
	c.LeaseTTL = cmp.Or(c.LeaseTTL, 3*time.Second)
	c.NodeTimeout = cmp.Or(c.NodeTimeout, 5*time.Second)
	c.ShutdownDelay = cmp.Or(c.ShutdownDelay, time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 2*time.Second)
	c.BookmarkInterval = cmp.Or(c.BookmarkInterval, time.Second)
	if c.Version == "" {
		c.Version = "v1.36.0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) validate() error {
	var faults []error
	if !validName(c.Name) {
		faults = append(faults, fmt.Errorf("name %q is not a DNS name in lower case", c.Name))
	}
	if c.Listener == nil && !c.Listen.IsValid() {
		faults = append(faults, errors.New("no address to serve on"))
	}
	if c.Advertise.IsValid() && (c.Advertise.Port() == 0 || c.Advertise.Addr().IsUnspecified()) {
		faults = append(faults, fmt.Errorf("advertised address %s is not one to connect to", c.Advertise))
	}
	if c.CertFile == "" || c.KeyFile == "" {
		faults = append(faults, errors.New("no certificate and key"))
	}
	if c.StateDir == "" {
		faults = append(faults, errors.New("no state directory"))
	}
	if min(c.LeaseTTL, c.NodeTimeout, c.ShutdownDelay, c.DrainTimeout, c.BookmarkInterval) < 0 {
		faults = append(faults, errors.New("times must not be negative"))
	}
	return errors.Join(faults...)
}

// Run serves until ctx ends, and then stops in order: it is unready and out of the EndpointSlice at once, serves for
// ShutdownDelay, and then lets requests finish. It returns an error if it cannot start or must give up.
func Run(ctx context.Context, cfg Config) error {
	cfg.setDefaults()
	if cfg.Listener != nil {
		defer cfg.Listener.Close()
	}
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	if err := run(ctx, cfg); err != nil {
		return fmt.Errorf("API server %s: %w", cfg.Name, err)
	}
	return nil
}

func run(ctx context.Context, cfg Config) error {
	trust, err := tlsConfig(cfg)
	if err != nil {
		return err
	}
	state, err := openStore(ctx, cfg.StateDir)
	if err != nil {
		return err
	}
	listener := cfg.Listener
	if listener == nil {
		var config net.ListenConfig
		if listener, err = config.Listen(ctx, "tcp", cfg.Listen.String()); err != nil {
			return err
		}
	}
	if !cfg.Advertise.IsValid() {
		cfg.Advertise = listener.Addr().(*net.TCPAddr).AddrPort()
	}
	s := &server{
		cfg: cfg, log: cfg.Log.With("server", cfg.Name), store: state,
		notReady: "starting", draining: make(chan struct{}),
	}
	s.latest.Store(&snapshot{changed: make(chan struct{})})
	return s.serve(ctx, listener, trust)
}

// server is one API server.
type server struct {
	cfg      Config
	log      *slog.Logger
	store    *store
	stopping atomic.Bool
	draining chan struct{}            // closed when watches must end
	latest   atomic.Pointer[snapshot] // what watches send; register replaces it

	mu       sync.Mutex
	notReady string // guarded by mu; the reason last logged, "" for ready
}

// serve runs everything until ctx ends and the server has drained.
func (s *server) serve(ctx context.Context, listener net.Listener, trust *tls.Config) error {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler:           s.handler(),
		TLSConfig:         trust,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	var group errgroup.Group
	group.Go(func() error {
		defer cancel()
		if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		defer cancel()
		return s.register(working)
	})
	group.Go(func() error {
		<-working.Done()
		return s.shutDown(ctx, server)
	})
	s.log.Info("API server (built in) serves", "address", listener.Addr().String(), "advertised", s.cfg.Advertise)
	return group.Wait()
}

// shutDown shuts the HTTP server down. It delays only if ctx has ended: otherwise clients expect no shutdown.
func (s *server) shutDown(ctx context.Context, server *http.Server) error {
	s.stopping.Store(true)
	s.updateReadiness()
	if ctx.Err() != nil {
		time.Sleep(s.cfg.ShutdownDelay) // bounded, and not to be shortened
	}
	close(s.draining)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		s.log.Warn("API server did not drain; closing its connections", "reason", err)
		return server.Close()
	}
	return nil
}

// updateReadiness returns why the server is not ready, or "", and logs changes.
func (s *server) updateReadiness() (reason string) {
	is := s.unready()
	s.mu.Lock()
	was := s.notReady
	s.notReady = is
	s.mu.Unlock()
	if is != was {
		s.log.Info("API server changed", "from", readiness(was), "to", readiness(is))
	}
	return is
}

func readiness(reason string) string {
	if reason == "" {
		return "ready"
	}
	return "unready: " + reason
}

// unready returns why the server is not ready, or "".
func (s *server) unready() string {
	if s.stopping.Load() {
		return "shutting down"
	}
	if s.cfg.UnreadyFile != "" {
		if text, err := os.ReadFile(s.cfg.UnreadyFile); err == nil {
			line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
			if line == "" {
				return "made unready on purpose"
			}
			return line
		}
	}
	if _, err := s.store.readRevision(); err != nil {
		return err.Error()
	}
	return ""
}

// tlsConfig loads the certificates.
func tlsConfig(cfg Config) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if cfg.ClientCAFile != "" {
		pem, err := os.ReadFile(cfg.ClientCAFile)
		if err != nil {
			return nil, err
		}
		trust.ClientCAs = x509.NewCertPool()
		if !trust.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", cfg.ClientCAFile)
		}
		trust.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return trust, nil
}
