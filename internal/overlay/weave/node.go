package weave

import (
	"context"
	cryptorand "crypto/rand"
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
	seedsInterval      = time.Hour
	seedsRetryInterval = time.Minute
	seedsTimeout       = 30 * time.Second
)

// Node is a peer of the mesh. It is safe for concurrent use.
type Node struct {
	cfg    Config
	log    *slog.Logger
	listen func(context.Context, netip.AddrPort) (net.Listener, error)

	started atomic.Bool
	bound   chan struct{}  // closed once addr is set
	addr    netip.AddrPort // where it listens

	group        *errgroup.Group // everything that Run has started
	wake         chan struct{}   // signals tick to reset its timer
	lastLinkLost chan struct{}   // signals that the last connection has ended

	traffic struct{ framesIn, framesOut, bytesIn, bytesOut atomic.Uint64 }

	mu       sync.Mutex // guards the fields below
	mesh     *mesh.Mesh
	links    map[mesh.LinkID]*link
	nextTick time.Time     // when tick's timer fires
	changed  chan struct{} // closed at the next change
	synced   chan struct{} // closed once a peer's whole state has been received
	flushed  chan struct{} // closed when nothing waits to be sent; nil without callers of Flush
}

// New returns a peer that does nothing until Run, but may be written to.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure mesh peer: %w", err)
	}
	cfg = cfg.withDefaults()
	n := &Node{
		cfg:          cfg,
		log:          cfg.Logger,
		listen:       listenTCP,
		bound:        make(chan struct{}),
		wake:         make(chan struct{}, 1),
		lastLinkLost: make(chan struct{}, 1),
		links:        make(map[mesh.LinkID]*link),
		changed:      make(chan struct{}),
		synced:       make(chan struct{}),
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

// random returns an unpredictable number: connection numbers decide which of two connections survives.
func random() uint64 {
	var b [8]byte
	cryptorand.Read(b[:]) // never fails
	return binary.NativeEndian.Uint64(b[:])
}

// Run takes part in the mesh until ctx ends, and returns once everything that it started has ended. The error is nil
// unless it could not listen. It can be called once.
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
	n.withMesh(func(time.Time) { n.mesh.SetListen(addr) })
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
		n.group.Go(func() error { return n.refreshSeeds(ctx) })
	}
	return n.group.Wait()
}

// withMesh calls f with the mesh locked, and carries out the effects. It returns the addresses to dial, which only
// Tick ever requests.
func (n *Node) withMesh(f func(now time.Time)) (dial []netip.AddrPort) {
	n.mu.Lock()
	f(time.Now())
	e := n.mesh.TakeEffects()
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
	n.wakeFlushers()
	if at := n.mesh.NextTick(); n.nextTick.IsZero() || at.Before(n.nextTick) {
		signal(n.wake)
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

// wakeFlushers wakes the callers of Flush if nothing waits to be sent. The caller holds mu.
func (n *Node) wakeFlushers() {
	if n.flushed != nil && n.isFlushed() {
		close(n.flushed)
		n.flushed = nil
	}
}

func (n *Node) isFlushed() bool {
	for _, l := range n.links {
		if l.writing {
			return false
		}
	}
	return len(n.links) > 0 && n.mesh.Flushed()
}

// signal sends to a channel of capacity one unless it is full.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// tick calls the mesh's Tick whenever it is due.
func (n *Node) tick(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			for _, addr := range n.withMesh(func(now time.Time) { n.mesh.Tick(now) }) {
				n.group.Go(func() error {
					n.dial(ctx, addr)
					return nil
				})
			}
		case <-n.wake:
		}
		n.mu.Lock()
		n.nextTick = n.mesh.NextTick()
		wait := time.Until(n.nextTick)
		n.mu.Unlock()
		timer.Reset(max(wait, 0))
	}
}

// refreshSeeds queries the seeds, every seedsInterval or seedsRetryInterval, until ctx ends.
func (n *Node) refreshSeeds(ctx context.Context) error {
	var fault string
	for {
		wait := seedsInterval
		if err := n.querySeeds(ctx); err != nil {
			wait = seedsRetryInterval
			if text := err.Error(); text != fault {
				fault = text
				n.log.Warn("cannot find out where peers may be; keeping those known", "error", err)
			}
		} else if fault != "" {
			fault = ""
			n.log.Info("found out again where peers may be")
		}
		if n.linkCount() == 0 {
			wait = seedsRetryInterval
		}
		if !n.sleepUnlessDisconnected(ctx, wait) {
			return nil
		}
	}
}

// sleepUnlessDisconnected waits, but after the last connection is lost at most seedsRetryInterval. It returns false
// if ctx has ended.
func (n *Node) sleepUnlessDisconnected(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-n.lastLinkLost:
			timer.Reset(min(wait, seedsRetryInterval))
		case <-timer.C:
			return true
		}
	}
}

func (n *Node) querySeeds(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, seedsTimeout)
	defer cancel()
	seeds, err := n.cfg.Seeds(ctx)
	if err != nil {
		return err
	}
	n.withMesh(func(now time.Time) { n.mesh.SetSeeds(now, seeds) })
	return nil
}

func (n *Node) linkCount() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.links)
}
