// Package node is the node daemon: it finds the cluster's control plane, keeps
// the answer in the hosts block and behind the local balancer, and on
// control-plane nodes publishes the node itself and serves the workers.
//
// muster-agent and muster-peer are this package. The peer hands in a gossip
// overlay through [Options.NewOverlay]; this package imports none, nor any cloud
// SDK, and a test reads the agent's dependencies to keep it so.
//
// Everything that is learned goes into one view (view.learn, view.observe), and
// everything that acts reads from it. The view never gives up its last address.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/hosts"
	"github.com/muster-dev/muster/internal/record"
)

// GossipOverlay is what the peer adds. Implementations are safe for concurrent
// use.
type GossipOverlay interface {
	// Run takes part in the overlay until ctx ends; what was published last
	// has left the node when it returns.
	Run(ctx context.Context) error
	// Publish spreads a record of this node.
	Publish(record.Signed) error
	// Records returns what the overlay holds.
	Records() record.Set
	// Changed receives when Records may have changed.
	Changed() <-chan struct{}
	// View describes the overlay for status and metrics.
	View() *OverlayView
}

// OverlayFactory makes the overlay that a configuration asks for. The verifier
// decides which records are believed.
type OverlayFactory func(Config, record.Verifier, *slog.Logger) (GossipOverlay, error)

// Options are what a program decides about its daemon.
type Options struct {
	// Program and Version are the program's, for logs and status.
	Program, Version string
	// NewOverlay makes the overlay that the configuration asks for. A program
	// without one leaves it nil and refuses such configurations.
	NewOverlay OverlayFactory
	// Notify tells the service manager about the daemon's state, in the words
	// of sd_notify(3). Nil means nobody is told.
	Notify func(state string)
	// Kept are the sockets that an earlier Run left by Keep. Balancers whose address one
	// has listen there, and the others are closed.
	Kept []net.Listener
	// Keep leaves copies of the balancers' sockets, instead of those left before, with
	// somebody who outlives the daemon. While it is started anew, clients that connect
	// then wait and are not refused. Nil leaves none.
	Keep func([]net.Listener) error
	// Log receives the daemon's events.
	Log *slog.Logger
}

// Node is one node daemon. Make it with [New], then call Run once.
type Node struct {
	cfg     Config
	opts    Options
	log     *slog.Logger
	started time.Time

	view     *view
	memory   *memory
	services []*service
	hosts    *hosts.Keeper // nil where disabled
	overlay  GossipOverlay
	stream   *streamReader // nil without discovery servers
	slice    *sliceReader  // nil where not configured

	adopted     chan struct{}                     // closed once there is nothing left to adopt
	settled     chan struct{}                     // closed once the hosts block may be written
	credentials atomic.Pointer[enrol.Credentials] // nil until the node has an identity
	unenrolled  atomic.Pointer[string]            // why it has none, if it has tried
	trustable   sync.Once
	trusted     chan struct{} // closed once the CA's certificate is on disk
}

// service is one name with what keeps it known.
type service struct {
	cfg      Service
	checker  atomic.Pointer[health.Checker] // nil until the CA is known
	balancer *balance.Balancer              // nil where not configured

	unchecked atomic.Pointer[string] // why there is no checker, where that is a fault
	anonymous atomic.Pointer[string] // why checks present no certificate, where they should
}

// New checks the configuration against the machine and prepares a daemon. It
// opens no socket and starts nothing. Faults are a [ConfigError] in all but name:
// the caller knows the file.
func New(cfg Config, opts Options) (*Node, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Notify == nil {
		opts.Notify = func(string) {}
	}
	if opts.Keep == nil {
		opts.Keep = func([]net.Listener) error { return nil }
	}
	if cfg.Overlay != nil && opts.NewOverlay == nil {
		return nil, fmt.Errorf("overlay: %s speaks no gossip; run muster-peer or take the section out", opts.Program)
	}
	if err := cfg.CheckFiles(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o755); err != nil {
		return nil, fmt.Errorf("stateDir: %w", err)
	}
	n := &Node{cfg: cfg, opts: opts, log: opts.Log, view: newView(cfg, opts.Log), trusted: make(chan struct{}), adopted: make(chan struct{}), settled: make(chan struct{})}

	var err error
	if n.memory, err = openMemory(cfg.StateDir); err != nil {
		n.log.Error("starting without the last good endpoints", "err", err)
	}
	if err := n.prepareOverlay(); err != nil {
		return nil, err
	}
	n.newServices()
	if d := cfg.Discovery; d != nil && len(d.Servers) > 0 {
		n.stream = &streamReader{view: n.view, log: n.log}
	}
	if s := cfg.Slice; s != nil {
		n.slice = &sliceReader{service: s.Service, tokenFile: s.TokenFile, view: n.view, log: n.log}
	}
	if !cfg.Hosts.Disabled {
		block := &hostsBlock{view: n.view, adopted: n.adopted, settled: n.settled, last: make(map[string][]hosts.Entry)}
		for _, s := range cfg.Services {
			block.services = append(block.services, hostsService{s.Name, fullNames(cfg, s)})
		}
		n.hosts = hosts.NewKeeper(hosts.Config{Path: cfg.Hosts.Path, StateDir: cfg.StateDir, Logger: n.log}, block.want)
	}
	return n, nil
}

func fullNames(cfg Config, s Service) []string {
	names := []string{cfg.FullName(s.Name)}
	for _, a := range s.Aliases {
		names = append(names, cfg.FullName(a))
	}
	return names
}

// remember puts into the view what is known without asking anybody.
func (n *Node) remember() {
	learn := func(service string, src endpoint.Source, addrs []netip.AddrPort) {
		if len(addrs) > 0 {
			n.view.learn(service, src, addrs)
		}
	}
	for _, s := range n.cfg.Services {
		learn(s.Name, endpoint.Balancer, s.LoadBalancer)
		learn(s.Name, endpoint.Boot, s.Addresses)
		learn(s.Name, endpoint.Disk, n.memory.recall(s.Name))
	}
	if d := n.cfg.Discovery; d != nil {
		learn(discoveryService, endpoint.Boot, d.Servers)
		learn(discoveryService, endpoint.Disk, n.memory.recall(discoveryService))
	}
}

// Run runs the daemon until ctx ends, and stops within two seconds: what this
// node published is withdrawn before the overlay is left, and the hosts block
// stays. It returns nil after an orderly stop.
func (n *Node) Run(ctx context.Context) error {
	n.started = time.Now()
	l, err := n.listen()
	if err != nil {
		return err
	}
	if err := n.authenticate(); err != nil {
		l.close()
		return err
	}
	n.log.Info("started", "program", n.opts.Program, "version", n.opts.Version, "cluster", n.cfg.Cluster, "node", n.cfg.Node, "role", string(n.cfg.Role))
	defer n.log.Info("stopped")
	n.remember()

	// The overlay outlives everything that publishes into it; one that fails
	// takes the daemon with it.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	overlayCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	var overlay errgroup.Group
	if n.overlay != nil {
		overlay.Go(func() error {
			err := n.overlay.Run(overlayCtx)
			stop(err)
			return err
		})
	}

	err = n.runParts(ctx, l)
	leave()
	if failed := overlay.Wait(); failed != nil {
		return failed
	}
	if errors.Is(err, context.Canceled) {
		return nil // it was asked to stop
	}
	return err
}

// runParts runs all that uses the overlay, until ctx ends or one part fails.
func (n *Node) runParts(ctx context.Context, l *listeners) error {
	g, ctx := errgroup.WithContext(ctx)
	if n.overlay != nil {
		g.Go(func() error { return n.followOverlay(ctx) })
	}
	for _, ln := range l.status {
		g.Go(func() error { return ServeStatus(ctx, ln, n.Report, n.registry()) })
	}
	g.Go(func() error { return n.keepMemory(ctx) })
	g.Go(func() error { return n.adopt(ctx) })
	if n.hosts != nil {
		g.Go(func() error { return n.settle(ctx) })
		g.Go(func() error { return n.hosts.Run(ctx) })
	}
	for _, s := range n.services {
		g.Go(func() error { return n.runService(ctx, s, l.balance[s.cfg.Name]) })
	}
	if l.discovery != nil {
		g.Go(func() error { return n.serveDiscovery(ctx, l.discovery) })
	}
	if n.stream != nil {
		g.Go(func() error { return n.followDiscovery(ctx) })
	}
	if n.slice != nil {
		g.Go(func() error { return n.followSlice(ctx) })
	}
	g.Go(func() error {
		Announce(ctx, n.opts.Notify, n.log, n.ready)
		return nil
	})
	return g.Wait()
}
