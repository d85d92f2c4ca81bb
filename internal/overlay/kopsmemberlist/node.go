package kopsmemberlist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/upstream"
)

// Leaving, at the end of Run: the last write is sent, and the leave announced. Gossip takes a second and a half to
// announce a leave among 200. kOps waits up to ten; the last two members that end together would wait in vain.
const (
	flushTimeout = 5 * time.Second
	leaveTimeout = 2 * time.Second
)

// logInterval is the least time between two log lines about invalid messages.
const logInterval = time.Minute

// Node is a member of the overlay. It is safe for concurrent use.
type Node struct {
	cfg   Config
	log   *slog.Logger
	queue *hashicorp.TransmitLimitedQueue
	alive atomic.Int32 // number of alive members, for the queue

	started atomic.Bool
	bound   chan struct{}  // closed once addr is set
	addr    netip.AddrPort // where it listens

	wake  chan struct{} // something must be sent, or there is a new member
	slots chan struct{} // semaphore of the sends over TCP

	mu          sync.Mutex // guards the fields below; upstream is never called under it
	shared      sharedState
	members     map[string]member
	sending     map[string]bool // members with a send under way
	edition     uint64          // counts our writes
	wroteAt     time.Time       // time of the last write
	unsent      bool            // no member has been sent that edition yet
	dispatching bool            // nextBroadcast's message is being dispatched
	changed     chan struct{}   // closed at the next change
	synced      chan struct{}   // closed once another member's full state has been received
	flushed     chan struct{}   // closed when nothing waits to be sent; nil without callers of Flush
	lastLogged  time.Time       // when an invalid message was last logged
}

// New returns a member that does nothing until Run, but may be written to.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure memberlist peer: %w", err)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure memberlist peer: %w", err)
	}
	n := &Node{
		cfg:     cfg,
		log:     cfg.Logger,
		bound:   make(chan struct{}),
		wake:    make(chan struct{}, 1),
		slots:   make(chan struct{}, maxSends),
		members: make(map[string]member),
		sending: make(map[string]bool),
		changed: make(chan struct{}),
		synced:  make(chan struct{}),
	}
	n.queue = &hashicorp.TransmitLimitedQueue{NumNodes: func() int { return int(n.alive.Load()) }}
	return n, nil
}

// Run takes part in the overlay until ctx ends. Then it sends the last write and announces that it leaves, which
// takes at most seven seconds, or ten if a member that does not answer is being joined, and returns once everything
// that it started has ended. The error is nil unless it could not listen. It can be called once.
//
// Upstream does not wait for its last probe, which may outlive Run by some seconds without any effect.
func (n *Node) Run(ctx context.Context) error {
	if n.started.Swap(true) {
		return errors.New("run memberlist peer: it has run before")
	}
	if n.cfg.Transport == nil {
		if err := upstream.TryBind(ctx, n.cfg.Listen); err != nil {
			return fmt.Errorf("run memberlist peer: %w", err)
		}
	}
	joiner := joiner{node: n}
	// The number of seeds decides how many members are gossiped to.
	joiner.querySeeds(ctx)
	n.queue.RetransmitMult = multiplier(len(joiner.seeds))
	ml, err := hashicorp.Create(n.upstream(len(joiner.seeds)))
	if err != nil {
		return fmt.Errorf("run memberlist peer: %w", err)
	}
	n.addr = n.ownAddr()
	close(n.bound)

	sendCtx, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	loops.Go(func() { joiner.keepJoined(ctx, ml) })
	loops.Go(func() { n.keepSending(sendCtx, ml) })
	<-ctx.Done()
	n.farewell(sendCtx, ml)
	stopSending()
	loops.Wait()
	if err := ml.Shutdown(); err != nil {
		return fmt.Errorf("close memberlist peer: %w", err)
	}
	return nil
}

func (n *Node) farewell(ctx context.Context, ml *hashicorp.Memberlist) {
	if len(n.others()) > 0 {
		flushCtx, stop := context.WithTimeout(ctx, flushTimeout)
		defer stop()
		if err := n.Flush(flushCtx); err != nil {
			n.log.Warn("not all members were told what was written last", "error", err)
		}
	}
	if err := ml.Leave(leaveTimeout); err != nil {
		// Some members know, and the rest learn it from them or by their own probes.
		n.log.Debug("leave cut short", "error", err)
	}
}

// ownAddr returns the address on which upstream listens.
func (n *Node) ownAddr() netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.members[n.cfg.NodeName].addr
}

// apply carries out an outcome. The caller holds mu.
func (n *Node) apply(out outcome) {
	if out.changed {
		close(n.changed)
		n.changed = make(chan struct{})
	}
	if out.synced {
		close(n.synced)
	}
	if out.send {
		n.edition++
		n.wroteAt, n.unsent = time.Now(), true
		signal(n.wake)
	}
}

// handle calls f for a message from upstream, and logs errors at most once per logInterval.
func (n *Node) handle(f func(now time.Time) outcome) {
	now := time.Now()
	n.mu.Lock()
	out := f(now)
	n.apply(out)
	shouldLog := len(out.errs) > 0 && now.Sub(n.lastLogged) >= logInterval
	if shouldLog {
		n.lastLogged = now
	}
	n.mu.Unlock()
	if shouldLog {
		n.log.Warn("a member says what cannot be used", "error", errors.Join(out.errs...))
	}
}

func (n *Node) write(key string, r legacy.Record) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	out, err := n.shared.write(time.Now(), key, r)
	n.apply(out)
	return err
}

// signal sends to a channel of capacity one unless it is full.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// delegate is upstream's delegate for the state. Its methods run on upstream's goroutines and never block.
type delegate struct{ n *Node }

var _ hashicorp.Delegate = delegate{}

// NodeMeta returns an empty slice that is not nil, as in kOps.
func (delegate) NodeMeta(int) []byte { return []byte{} }

func (s delegate) NotifyMsg(b []byte) {
	s.n.handle(func(time.Time) outcome { return s.n.shared.receiveMessage(b) })
}

func (s delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return s.n.queue.GetBroadcasts(overhead, limit)
}

func (s delegate) LocalState(bool) []byte {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	return s.n.shared.fullState()
}

func (s delegate) MergeRemoteState(b []byte, _ bool) {
	s.n.handle(func(now time.Time) outcome {
		return s.n.shared.receiveState(now, b, len(s.n.othersLocked()) == 0)
	})
}

// alive accepts every member. kOps has such a delegate too: with it, upstream ignores members that do not state the
// protocol versions they speak.
type alive struct{}

var _ hashicorp.AliveDelegate = alive{}

func (alive) NotifyAlive(*hashicorp.Node) error { return nil }

// acks sends an empty payload with acknowledgements. kOps has such a delegate too: without it, upstream would send
// none.
type acks struct{}

var _ hashicorp.PingDelegate = acks{}

func (acks) AckPayload() []byte { return []byte{} }

func (acks) NotifyPingComplete(*hashicorp.Node, time.Duration, []byte) {}
