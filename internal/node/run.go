package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/record"
)

// prepareOverlay makes the overlay that the configuration asks for.
func (n *Node) prepareOverlay() error {
	if n.cfg.Overlay == nil {
		return nil
	}
	roots, err := readRoots(n.cfg.caFile())
	if err != nil {
		return fmt.Errorf("ca %w", err)
	}
	verifier := record.Verifier{
		Identity: identity.Verifier{Roots: roots, Cluster: n.cfg.Cluster},
		Networks: n.cfg.Overlay.Networks,
	}
	for _, s := range n.cfg.Services {
		verifier.Names = append(verifier.Names, fullNames(n.cfg, s)...)
	}
	n.overlay, err = n.opts.NewOverlay(n.cfg, verifier, n.log)
	return err
}

// authenticate loads the identity that is on disk. A control-plane node must have
// one; a worker without one enrols while it runs.
func (n *Node) authenticate() error {
	creds, err := enrol.LoadCredentials(n.cfg.StateDir, n.cfg.Identity(), n.log)
	if err == nil {
		n.credentials.Store(creds)
		n.trustOnce()
		return nil
	}
	if n.cfg.Role == identity.ControlPlane {
		return fmt.Errorf("%w; a control-plane node's identity comes from muster init", err)
	}
	if n.cfg.caFile() != "" {
		n.trustOnce()
	}
	return nil
}

// trustOnce lets the checks start: the CA's certificate is on disk.
func (n *Node) trustOnce() { n.trustable.Do(func() { close(n.trusted) }) }

// followOverlay feeds the overlay's records into the view. Time passes too: a
// record that nobody refreshes stops counting when it expires.
func (n *Node) followOverlay(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		set := n.overlay.Records()
		now := time.Now()
		for _, s := range n.cfg.Services {
			n.view.learn(s.Name, endpoint.Overlay, set.Resolve(n.cfg.FullName(s.Name), now))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.overlay.Changed():
		case <-tick.C:
		}
	}
}

// keepMemory saves every good answer.
func (n *Node) keepMemory(ctx context.Context) error {
	n.view.follow(ctx, func(sets map[string]endpoint.Set) {
		if err := n.memory.keep(sets); err != nil {
			n.log.Error("keep endpoints", "err", err)
		}
	})
	return nil
}

// runService keeps one service known and, where asked for, balanced.
func (n *Node) runService(ctx context.Context, s *service, ln net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.balancer != nil {
		// Before the first client, not a moment after: a balancer that knows
		// no server resets whoever comes.
		if set, ok := n.view.get(s.cfg.Name); ok {
			if err := s.balancer.Update(set); err != nil {
				return err
			}
		}
		g.Go(func() error { return s.balancer.Run(ctx, ln) })
	}
	g.Go(func() error {
		cfg, ok := n.awaitRoots(ctx, s)
		if !ok {
			return nil
		}
		return n.check(ctx, s, cfg)
	})
	if s.balancer != nil {
		g.Go(func() error {
			n.view.follow(ctx, func(sets map[string]endpoint.Set) {
				if set, ok := sets[s.cfg.Name]; ok {
					if err := s.balancer.Update(set); err != nil {
						n.log.Error("update balancer", "service", s.cfg.Name, "err", err)
					}
				}
			})
			return nil
		})
	}
	return g.Wait()
}

// check runs the health checks of one service and feeds the view.
func (n *Node) check(ctx context.Context, s *service, cfg health.Config) error {
	watched := cfg
	if s.balancer != nil {
		watched.Answered = s.balancer.Answered
	}
	if s.balancer != nil && n.hosts == nil {
		// Connections made through the hosts block cannot be seen from here.
		watched.Unused = func(addr netip.AddrPort) bool { return !s.balancer.InUse(addr) }
	}
	checker, err := health.New(watched)
	if err != nil {
		return err
	}
	s.checker.Store(checker)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return checker.Run(ctx) })
	g.Go(func() error {
		// Targets follow everything known, not only what serves: a server
		// that is down must be seen to come back.
		for {
			_, _, changed := n.view.snapshot()
			var addrs []netip.AddrPort
			for _, e := range n.view.known(s.cfg.Name) {
				addrs = append(addrs, e.Addr)
			}
			checker.SetTargets(addrs)
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			}
		}
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-checker.Changed():
				n.view.observe(s.cfg.Name, checker.Results())
			}
		}
	})
	if s.cfg.SRV != "" {
		f := &srvFinder{service: s.cfg, view: n.view, log: n.log, lookup: lookupSRV, prove: proveBy(cfg)}
		g.Go(func() error { return f.run(ctx) })
	}
	if !s.cfg.Publish.IsZero() {
		g.Go(func() error { return n.publish(ctx, s.cfg, cfg) })
	}
	return g.Wait()
}

// publish publishes this node's own server while it answers. Its checks are more
// frequent than those of other nodes, over a connection that stays open within the
// machine, so that this node is the first to know.
func (n *Node) publish(ctx context.Context, s Service, cfg health.Config) error {
	cfg.Interval = 200 * time.Millisecond
	checker, err := health.New(cfg)
	if err != nil {
		return err
	}
	checker.SetTargets([]netip.AddrPort{s.Publish.AddrPort})
	p := &publisher{
		service: s.Name,
		names:   fullNames(n.cfg, s),
		addr:    s.Publish.AddrPort,
		checker: checker,
		view:    n.view,
		log:     n.log,
		overlay: n.overlay,
		creds:   n.credentials.Load(),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return checker.Run(ctx) })
	g.Go(func() error { return p.run(ctx) })
	return g.Wait()
}

// ready reports whether the first service has endpoints.
func (n *Node) ready() (bool, <-chan struct{}) {
	sets, _, changed := n.view.snapshot()
	_, ok := sets[n.cfg.Services[0].Name]
	return ok, changed
}

// readyAtLatest is when a daemon counts as started though it knows nothing yet. It is
// less than the TimeoutStartSec of the units, at which systemd would kill it for the
// network's sake, again and again, and a peer would leave the overlay each time.
const readyAtLatest = 45 * time.Second

// Announce tells a service manager, by sd_notify(3), that a daemon is ready once
// ready says so, or after 45 s; feeds the watchdog; and announces the stop when ctx
// ends. ready also returns a channel that is closed when its answer may have changed.
func Announce(ctx context.Context, notify func(state string), log *slog.Logger, ready func() (ok bool, changed <-chan struct{})) {
	defer notify("STOPPING=1")
	known, announced := false, false
	late := time.NewTimer(readyAtLatest)
	defer late.Stop()
	var watchdog <-chan time.Time
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
		defer tick.Stop()
		watchdog = tick.C
	}
	for {
		ok, changed := ready()
		if ok && !known {
			known = true
			log.Info("ready")
		}
		if known && !announced {
			announced = true
			notify("READY=1")
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-late.C:
			if !announced {
				announced = true
				log.Warn("no address known yet; counts as started, so that nothing waits for it any longer", "after", readyAtLatest.String())
				notify("READY=1")
			}
		case <-watchdog:
			notify("WATCHDOG=1")
		}
	}
}

// newServices makes what each service needs; nothing runs yet.
func (n *Node) newServices() {
	for _, cfg := range n.cfg.Services {
		s := &service{cfg: cfg}
		if !cfg.Balance.IsZero() {
			s.balancer = balance.New(balance.Config{
				Name:   cfg.Name,
				Logger: n.log,
				OnDialFailure: func(addr netip.AddrPort, err error) {
					if c := s.checker.Load(); c != nil {
						c.Report(addr, err)
					}
				},
			})
		}
		n.services = append(n.services, s)
	}
}
