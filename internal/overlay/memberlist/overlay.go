package memberlist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/upstream"
	"github.com/muster-dev/muster/internal/record"
)

const (
	// leaveTime bounds the farewell at the end of Run.
	leaveTime = time.Second
	// houseInterval is how often the key file is looked at and what expired is
	// dropped.
	houseInterval = 500 * time.Millisecond
)

// ErrStale is returned for a record that does not follow the one held: sign it
// again with a clock after [record.Clock.Next] of that one.
var ErrStale = errors.New("a later statement of this node is already out")

// An Overlay is one node's part in the gossip. Its methods are safe for
// concurrent use.
type Overlay struct {
	cfg   Config
	log   *slog.Logger
	keys  *keyring
	queue *hashicorp.TransmitLimitedQueue
	drops ledger

	changed chan struct{}
	ran     atomic.Bool
	ml      atomic.Pointer[hashicorp.Memberlist] // while Run runs
	alive   atomic.Int32                         // members alive, for the queue; mirrors members

	mu      sync.Mutex // guards what follows; upstream is never called under it
	records record.Set
	members map[string]Member
}

// New checks cfg and reads the keyring. It opens nothing: see [Overlay.Run].
func New(cfg Config) (*Overlay, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	keys, err := openKeyring(cfg.Keyring)
	if err != nil {
		return nil, err
	}
	o := &Overlay{
		cfg:     cfg,
		log:     cfg.Logger.With("overlay", "memberlist"),
		keys:    keys,
		changed: make(chan struct{}, 1),
		members: make(map[string]Member),
	}
	o.queue = &hashicorp.TransmitLimitedQueue{
		NumNodes:       func() int { return int(o.alive.Load()) },
		RetransmitMult: recordMult,
	}
	return o, nil
}

// Run takes part in the overlay until ctx ends, then returns nil. It says
// farewell first: what this node published last is sent to every member, so a
// withdrawal published before ctx ends is out when Run returns. That takes at
// most a second, and up to four more if a seed that does not answer is being
// joined just then. It fails at once if the address cannot be listened on. Run
// may be called once.
//
// Upstream does not wait for its own last probe, which may outlive Run by up to
// 1.4 s without doing anything.
func (o *Overlay) Run(ctx context.Context) error {
	if o.ran.Swap(true) {
		return errors.New("gossip: an overlay runs once; make a new one")
	}
	if o.cfg.Transport == nil {
		if err := upstream.TryBind(ctx, o.cfg.Bind); err != nil {
			return fmt.Errorf("gossip: %w", err)
		}
	}
	ml, err := hashicorp.Create(o.upstream())
	if err != nil {
		return fmt.Errorf("gossip on %s: %w", o.cfg.Bind, err)
	}
	o.log.Info("gossip started", "cluster", o.cfg.Cluster, "node", o.cfg.Node, "bind", o.cfg.Bind, "keys", len(o.keys.ring.GetKeys()))

	o.ml.Store(ml)
	var loops sync.WaitGroup
	loops.Go(func() { o.keepJoined(ctx, ml) })
	loops.Go(func() { o.keepHouse(ctx) })
	<-ctx.Done()
	o.farewell(ml)
	loops.Wait()
	o.ml.Store(nil)
	if err := ml.Shutdown(); err != nil {
		return fmt.Errorf("gossip on %s: close: %w", o.cfg.Bind, err)
	}
	o.log.Info("gossip stopped")
	return nil
}

// farewell says again to every member what this node said last, leaves, and
// gives what others said the time to be passed on.
func (o *Overlay) farewell(ml *hashicorp.Memberlist) {
	deadline := time.Now().Add(leaveTime)
	now := time.Now()
	for _, s := range o.Records().All() {
		if s.Publisher == o.cfg.Node && now.Before(s.Expires) {
			o.tell(ml, s)
		}
	}
	alone := len(o.others()) == 0
	if err := ml.Leave(time.Until(deadline)); err != nil {
		// Told some members, not as often as it would have liked: the rest hear of
		// it from those, or find out by themselves.
		o.log.Debug("leave cut short", "error", err)
	}
	for !alone && o.queue.NumQueued() > 0 && time.Now().Before(deadline) {
		time.Sleep(gossipInterval)
	}
}

// tell sends s to every member, one packet each. Gossip does the same in the end,
// but later, and misses a node now and then; here it only makes up for losses.
func (o *Overlay) tell(ml *hashicorp.Memberlist, s record.Signed) {
	wire := s.Encode()
	for _, m := range o.others() {
		if err := ml.SendToAddress(hashicorp.Address{Addr: m.Addr.String(), Name: m.Name}, wire); err != nil {
			o.log.Debug("record not sent", "member", m.Name, "name", s.Name, "error", err)
		}
	}
}

// keepHouse follows the key file and drops what expired, until ctx ends.
func (o *Overlay) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.keys.follow(o.log)
			o.expire(time.Now())
		}
	}
}

func (o *Overlay) expire(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.records.Expire(now) {
		o.signal()
	}
	for name, m := range o.members {
		if m.State == Gone && now.Sub(m.Since) > record.MaxLifetime {
			delete(o.members, name)
		}
	}
}

// Publish spreads a record of this node. It fails if other nodes would not
// believe s, and with [ErrStale] if s does not follow what this node said
// before, which after a restart may come back from others: a publisher watches
// [Overlay.Changed] for that. Publishing what is held already sends it again.
//
// A withdrawal should expire no earlier than the record it takes back;
// otherwise that one may return. Before Run, records wait for it.
func (o *Overlay) Publish(s record.Signed) error {
	if s.Publisher != o.cfg.Node {
		return fmt.Errorf("publish %q: record of node %q, but this is %q", s.Name, s.Publisher, o.cfg.Node)
	}
	if err := o.cfg.Verifier.Verify(s, time.Now()); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := o.admitOwn(s); err != nil {
		return fmt.Errorf("publish %q at %s: %w", s.Name, s.Clock, err)
	}
	if ml := o.ml.Load(); ml != nil {
		o.tell(ml, s)
	}
	return nil
}

func (o *Overlay) admitOwn(s record.Signed) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if held, ok := o.records.Get(s.Key()); ok && held.Compare(s) > 0 {
		return fmt.Errorf("%w, at %s", ErrStale, held.Clock)
	}
	o.take(s)
	o.enqueue(s)
	return nil
}

// take adds s and reports whether it was news. The caller holds mu.
func (o *Overlay) take(s record.Signed) bool {
	if !o.records.Add(s) {
		return false
	}
	o.signal()
	return true
}

// enqueue spreads s in place of what was to be spread for its key. The caller
// holds mu, so that the latest statement is also the last one enqueued.
func (o *Overlay) enqueue(s record.Signed) {
	o.queue.QueueBroadcast(broadcast{key: s.Key(), msg: s.Encode()})
}

func (o *Overlay) signal() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// Changed is sent to after the records changed; changes that nobody waited for
// come as one. It serves a single reader.
func (o *Overlay) Changed() <-chan struct{} { return o.changed }

// Records returns a copy of the records held.
func (o *Overlay) Records() record.Set {
	o.mu.Lock()
	defer o.mu.Unlock()
	var s record.Set
	s.Merge(o.records)
	return s
}

// Stats is the overlay in numbers.
type Stats struct {
	Members int // alive, this node included
	Records int // held, withdrawals included
	Queued  int // records still being spread
	// Dropped counts what was refused since the start, by reason. Every reason
	// is present, also at zero.
	Dropped map[string]uint64
}

// Stats returns the numbers of now.
func (o *Overlay) Stats() Stats {
	s := Stats{Members: int(o.alive.Load()), Queued: o.queue.NumQueued(), Dropped: o.drops.counts()}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Records = o.records.Len()
	return s
}
