package weave

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/overlay/weave/mesh"
)

const (
	seedsEvery   = time.Hour
	seedsRetry   = time.Minute
	seedsTimeout = 30 * time.Second
)

// Node is a peer of the mesh. It is safe for concurrent use.
type Node struct {
	cfg    Config
	log    *slog.Logger
	listen func(context.Context, netip.AddrPort) (net.Listener, error)

	started atomic.Bool
	bound   chan struct{}  // closed once addr is set
	addr    netip.AddrPort // where it listens

	group *errgroup.Group // of everything that Run has started
	kick  chan struct{}   // the timer has to be set anew
	alone chan struct{}   // the last connection has ended

	traffic struct{ framesIn, framesOut, bytesIn, bytesOut atomic.Uint64 }

	mu      sync.Mutex // guards all below
	mesh    *mesh.Mesh
	links   map[mesh.LinkID]*link
	armed   time.Time     // when the timer fires
	changed chan struct{} // closed at the next change
	synced  chan struct{} // closed when a peer's whole state has been heard
	quiet   chan struct{} // closed when nothing waits to be sent; nil if nobody waits for that
}

// New returns a peer that does nothing until Run. It may be written to before.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure mesh peer: %w", err)
	}
	cfg = cfg.withDefaults()
	n := &Node{
		cfg:     cfg,
		log:     cfg.Logger,
		listen:  listenTCP,
		bound:   make(chan struct{}),
		kick:    make(chan struct{}, 1),
		alone:   make(chan struct{}, 1),
		links:   make(map[mesh.LinkID]*link),
		changed: make(chan struct{}),
		synced:  make(chan struct{}),
	}
	if n.cfg.Dial == nil {
		n.cfg.Dial = n.dialTCP
	}
	n.mesh = mesh.New(meshConfig(cfg), time.Now())
	return n, nil
}

func meshConfig(cfg Config) mesh.Config {
	return mesh.Config{
		Node:      cfg.NodeName,
		UID:       random() | 1,
		Leaf:      cfg.Leaf,
		Links:     cfg.Links,
		Refresh:   cfg.Refresh,
		ConnLimit: cfg.ConnLimit,
		Discover:  !cfg.NoDiscovery,
		Rand:      rand.New(rand.NewPCG(random(), random())),
	}
}

// random returns a number that nobody can guess: connection numbers decide
// which of two connections survives.
func random() uint64 {
	var b [8]byte
	crand.Read(b[:]) // never fails
	return binary.NativeEndian.Uint64(b[:])
}

// Run takes part in the mesh until ctx ends, and returns when everything that
// it has started has ended. The error is nil unless it could not listen. It can
// be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.started.Swap(true) {
		return errors.New("run mesh peer: it has run before")
	}
	addr := netip.AddrPortFrom(netip.Addr{}, DefaultPort)
	var listener net.Listener
	if !n.cfg.Leaf {
		var err error
		if listener, err = n.listen(ctx, n.cfg.Listen); err != nil {
			return fmt.Errorf("run mesh peer: %w", err)
		}
		addr = addrPort(listener.Addr())
	}
	n.group, ctx = errgroup.WithContext(ctx)
	n.do(func(time.Time) { n.mesh.SetListen(addr) })
	n.addr = addr
	close(n.bound)
	if listener != nil {
		n.group.Go(func() error { return n.accept(ctx, listener) })
		n.group.Go(func() error {
			<-ctx.Done()
			return listener.Close()
		})
	}
	n.group.Go(func() error { return n.tick(ctx) })
	if n.cfg.Seeds != nil {
		n.group.Go(func() error { return n.seek(ctx) })
	}
	return n.group.Wait()
}

// do calls f with the mesh locked, and does what the mesh asks for then. It
// returns the addresses to dial, which only Tick ever asks for.
func (n *Node) do(f func(now time.Time)) (dial []netip.AddrPort) {
	n.mu.Lock()
	f(time.Now())
	e := n.mesh.Take()
	for _, id := range e.Ready {
		if l := n.links[id]; l != nil {
			signal(l.ready)
		}
	}
	var closing []*link
	for _, c := range e.Close {
		if l := n.links[c.ID]; l != nil {
			l.cause = c.Reason
			closing = append(closing, l)
		}
	}
	if e.Changed {
		close(n.changed)
		n.changed = make(chan struct{})
	}
	if e.Synced {
		close(n.synced)
	}
	n.wakeQuiet()
	if at := n.mesh.Wake(); n.armed.IsZero() || at.Before(n.armed) {
		signal(n.kick)
	}
	n.mu.Unlock()

	for _, l := range closing {
		l.conn.Close()
	}
	for _, notice := range e.Notices {
		n.log.Warn(notice)
	}
	return e.Dial
}

// wakeQuiet tells those who wait for it that nothing waits to be sent.
func (n *Node) wakeQuiet() {
	if n.quiet != nil && n.isQuiet() {
		close(n.quiet)
		n.quiet = nil
	}
}

func (n *Node) isQuiet() bool {
	for _, l := range n.links {
		if l.writing {
			return false
		}
	}
	return len(n.links) > 0 && n.mesh.Quiet()
}

// signal puts a token into a channel of one, if there is none.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// tick calls the mesh when it wants to be called.
func (n *Node) tick(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			for _, addr := range n.do(func(now time.Time) { n.mesh.Tick(now) }) {
				n.group.Go(func() error {
					n.dial(ctx, addr)
					return nil
				})
			}
		case <-n.kick:
		}
		n.mu.Lock()
		n.armed = n.mesh.Wake()
		wait := time.Until(n.armed)
		n.mu.Unlock()
		timer.Reset(max(wait, 0))
	}
}

// seek asks for seeds now and then.
func (n *Node) seek(ctx context.Context) error {
	var fault string
	for {
		wait := seedsEvery
		if err := n.ask(ctx); err != nil {
			wait = seedsRetry
			if text := err.Error(); text != fault {
				fault = text
				n.log.Warn("cannot find out where peers may be; keeping those known", "error", err)
			}
		} else if fault != "" {
			fault = ""
			n.log.Info("found out again where peers may be")
		}
		if n.linkCount() == 0 {
			wait = seedsRetry
		}
		if !n.sleepUnlessAlone(ctx, wait) {
			return nil
		}
	}
}

// sleepUnlessAlone waits, but no longer than seedsRetry past the loss of the
// last connection. It reports whether ctx has not ended.
func (n *Node) sleepUnlessAlone(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-n.alone:
			timer.Reset(min(wait, seedsRetry))
		case <-timer.C:
			return true
		}
	}
}

func (n *Node) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seedsTimeout)
	defer cancel()
	seeds, err := n.cfg.Seeds(ctx)
	if err != nil {
		return err
	}
	n.do(func(now time.Time) { n.mesh.SetSeeds(now, seeds) })
	return nil
}

func (n *Node) linkCount() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.links)
}
