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

// The farewell at the end of Run: what was written last, and that we leave.
// Gossip takes a second and a half to tell of a leave among 200. kOps waits up to
// ten; the last two that end at the same time would do so in vain.
const (
	lastWordTime = 5 * time.Second
	leaveTime    = 2 * time.Second
)

// tellEvery is how often what others do wrong is logged at most.
const tellEvery = time.Minute

// Node is a member of the overlay. It is safe for concurrent use.
type Node struct {
	cfg   Config
	log   *slog.Logger
	queue *hashicorp.TransmitLimitedQueue
	alive atomic.Int32 // members alive, for the queue; mirrors members

	started atomic.Bool
	bound   chan struct{}  // closed once addr is set
	addr    netip.AddrPort // where it listens

	kick  chan struct{} // something has to be sent, or there is somebody new
	slots chan struct{} // of the sends over TCP at the same time

	mu       sync.Mutex // guards what follows; upstream is never called under it
	board    board
	members  map[string]member
	sending  map[string]bool // members that something is on its way to
	edition  uint64          // of what we wrote
	wroteAt  time.Time       // that edition
	unsent   bool            // nobody has been sent that edition yet
	handing  bool            // it is being handed out
	changed  chan struct{}   // closed at the next change
	synced   chan struct{}   // closed when somebody's whole state has been heard
	quiet    chan struct{}   // closed when nothing waits to be sent; nil if nobody waits for that
	lastTold time.Time       // when a fault of others was logged
}

// New returns a member that does nothing until Run. It may be written to before.
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
		kick:    make(chan struct{}, 1),
		slots:   make(chan struct{}, maxSends),
		members: make(map[string]member),
		sending: make(map[string]bool),
		changed: make(chan struct{}),
		synced:  make(chan struct{}),
	}
	n.queue = &hashicorp.TransmitLimitedQueue{NumNodes: func() int { return int(n.alive.Load()) }}
	return n, nil
}

// Run takes part in the overlay until ctx ends, and returns when everything that
// it has started has ended; before, it sends what was written last and says that
// it leaves, which takes seven seconds at most. A member that does not answer and
// is being joined just then can take ten. The error is nil unless it
// could not listen. It can be called once.
//
// Upstream does not wait for its own last probe, which may outlive Run by some
// seconds without doing anything.
func (n *Node) Run(ctx context.Context) error {
	if n.started.Swap(true) {
		return errors.New("run memberlist peer: it has run before")
	}
	if n.cfg.Transport == nil {
		if err := upstream.TryBind(ctx, n.cfg.Listen); err != nil {
			return fmt.Errorf("run memberlist peer: %w", err)
		}
	}
	seeker := seeker{node: n}
	// The number of seeds decides how many members are gossiped to.
	seeker.ask(ctx)
	n.queue.RetransmitMult = multiplier(len(seeker.seeds))
	ml, err := hashicorp.Create(n.upstream(len(seeker.seeds)))
	if err != nil {
		return fmt.Errorf("run memberlist peer: %w", err)
	}
	n.addr = n.own()
	close(n.bound)

	sendCtx, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	var loops sync.WaitGroup
	loops.Go(func() { seeker.keepJoined(ctx, ml) })
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
		flushCtx, stop := context.WithTimeout(ctx, lastWordTime)
		defer stop()
		if err := n.Flush(flushCtx); err != nil {
			n.log.Warn("not all members were told what was written last", "error", err)
		}
	}
	if err := ml.Leave(leaveTime); err != nil {
		// Told some members, not as often as it would have liked: the rest hear of
		// it from those, or find out by themselves.
		n.log.Debug("leave cut short", "error", err)
	}
}

// own returns where upstream says that it listens.
func (n *Node) own() netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.members[n.cfg.NodeName].addr
}

// note does what an outcome asks for, with n locked.
func (n *Node) note(out outcome) {
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
		signal(n.kick)
	}
}

// hear takes in what others say, and logs now and then what is wrong with it.
func (n *Node) hear(f func(now time.Time) outcome) {
	now := time.Now()
	n.mu.Lock()
	out := f(now)
	n.note(out)
	tell := len(out.notices) > 0 && now.Sub(n.lastTold) >= tellEvery
	if tell {
		n.lastTold = now
	}
	n.mu.Unlock()
	if tell {
		n.log.Warn("a member says what cannot be used", "error", errors.Join(out.notices...))
	}
}

func (n *Node) write(key string, r legacy.Record) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	out, err := n.board.write(time.Now(), key, r)
	n.note(out)
	return err
}

// signal puts a token into a channel of one, if there is none.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// spread is what upstream calls to carry the state. Its methods run on upstream's
// goroutines and never block.
type spread struct{ n *Node }

var _ hashicorp.Delegate = spread{}

// NodeMeta is empty but there, as with kOps.
func (spread) NodeMeta(int) []byte { return []byte{} }

func (s spread) NotifyMsg(b []byte) {
	s.n.hear(func(time.Time) outcome { return s.n.board.hearMessage(b) })
}

func (s spread) GetBroadcasts(overhead, limit int) [][]byte {
	return s.n.queue.GetBroadcasts(overhead, limit)
}

func (s spread) LocalState(bool) []byte {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	return s.n.board.full()
}

func (s spread) MergeRemoteState(b []byte, _ bool) {
	s.n.hear(func(now time.Time) outcome {
		return s.n.board.hearState(now, b, len(s.n.othersLocked()) == 0)
	})
}

// alive accepts every member. kOps has such a delegate too: with it, upstream
// passes over members that do not say which versions they speak.
type alive struct{}

var _ hashicorp.AliveDelegate = alive{}

func (alive) NotifyAlive(*hashicorp.Node) error { return nil }

// acks says nothing in acknowledgements. kOps has such a delegate too: with it,
// upstream writes an empty payload where it otherwise writes none.
type acks struct{}

var _ hashicorp.PingDelegate = acks{}

func (acks) AckPayload() []byte { return []byte{} }

func (acks) NotifyPingComplete(*hashicorp.Node, time.Duration, []byte) {}
