// Package apiserver is the lab's built-in stand-in for a Kubernetes API server.
// It serves, over TLS and in Kubernetes' own JSON, exactly what discovery and
// its rehearsals need:
//
//   - /livez, /readyz and /version;
//   - Nodes: list, get, create, delete, and the status that a kubelet posts,
//     from whose age the Ready condition is derived when a Node is read;
//   - the EndpointSlice of the kubernetes service, by list, get and watch. Like
//     real servers, each keeps a lease in the shared state, and the slice lists
//     those whose lease has not run out. A server that is killed drops out when
//     its lease does; one that is stopped takes itself off at once.
//
// The servers of one lab share a directory that stands in for etcd; see store.
//
// It is no API server otherwise, and says so in its version and its Server
// header. In particular: reading needs no identity, and any client certificate
// of the client CA may change any Node. There is no other kind of object, no
// discovery document, no paging, no field selector, no patch but that of a
// Node's status, no watch of Nodes. A Node keeps its metadata's labels and
// annotations, its spec, and of its status conditions, addresses and nodeInfo.
// A watch tells the latest state, and may pass over states between. The Ready
// condition turning Unknown does not change a Node's resourceVersion. A
// readyz that fails answers 503 where a real one answers 500. Certificates are
// read once.
//
// What it shares with the real one and is easily overlooked: a server that
// becomes unready stays in the EndpointSlice, and the slice is never emptied,
// not even when no server is left.
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
	bodyTimeout       = 10 * time.Second // to read a body, and to write an answer
	idleTimeout       = time.Minute
	maxHeaderBytes    = 64 << 10
	maxBodyBytes      = 256 << 10
)

// Config says how to run a server.
type Config struct {
	// Name is the server's own, unique among the servers of one lab: that of
	// its node. Required.
	Name string
	// Listen is the address to serve on. Required, unless Listener is set.
	Listen netip.AddrPort
	// Listener takes the place of Listen; tests have use for it. Run closes it.
	Listener net.Listener `json:"-"`
	// Advertise is the address in the EndpointSlice. Default: the one that is
	// served on. All servers of a lab have to agree on the port and on the
	// version of IP, because an EndpointSlice has one of each.
	Advertise netip.AddrPort
	// CertFile and KeyFile are the server's certificate and key, in PEM.
	// Required.
	CertFile, KeyFile string
	// ClientCAFile has, in PEM, whom to trust for client certificates. Empty
	// means nobody, so that nothing can be changed.
	ClientCAFile string
	// StateDir is the directory that the servers share. It has to exist.
	// Required.
	StateDir string
	// UnreadyFile makes the server unready for as long as a file of this path
	// exists; its first line is the reason. Empty means none.
	UnreadyFile string
	// LeaseTTL is how long the server stays in the EndpointSlice after it last
	// renewed its lease, which it does three times as often. Default 3 s;
	// Kubernetes has 15 s.
	LeaseTTL time.Duration
	// NodeTimeout is how old a Node's last status may be before its Ready
	// condition is Unknown. Default 5 s; Kubernetes has 50 s.
	NodeTimeout time.Duration
	// ShutdownDelay is how long the server goes on serving, unready, once it is
	// told to end. Default 1 s.
	ShutdownDelay time.Duration
	// DrainTimeout bounds the wait for requests at the end. Default 2 s, of
	// which one that speaks HTTP/2 takes a good part only to say good-bye.
	DrainTimeout time.Duration
	// BookmarkInterval is the time between the bookmarks of a watch that asks
	// for them. Default 1 s; Kubernetes has about a minute.
	BookmarkInterval time.Duration
	// Version is what /version claims to be, with a suffix that says it is
	// built in. Default v1.36.0.
	Version string
	// Log receives changes of readiness and of the EndpointSlice. Nil discards.
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

// Run serves until ctx ends, and then ends in order: unready and out of the
// EndpointSlice at once, serving for ShutdownDelay, then letting requests
// finish. It returns an error when it cannot begin or has to give up.
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
	draining chan struct{}            // closed when watches have to end
	latest   atomic.Pointer[snapshot] // what watches tell; register replaces it

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

// shutDown ends the HTTP server. Unless ctx has ended nobody was told to
// expect it, and there is nothing to delay for.
func (s *server) shutDown(ctx context.Context, server *http.Server) error {
	s.stopping.Store(true)
	s.noteReadiness()
	if ctx.Err() != nil {
		time.Sleep(s.cfg.ShutdownDelay) // bounded, and nothing is to shorten it
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

// noteReadiness logs the readiness when it has changed, and returns it.
func (s *server) noteReadiness() (reason string) {
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

// tlsConfig reads the certificates.
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
