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
	// leaveTimeout bounds leave, at the end of Run.
	leaveTimeout = time.Second
	// maintainInterval is how often the key file is read and expired records are dropped.
	maintainInterval = 500 * time.Millisecond
)

// ErrStale is returned for a record that is not newer than the one held: sign it again with a clock from
// [record.Clock.Next] of that one.
var ErrStale = errors.New("a later statement of this node is already out")

// An Overlay is one node of the overlay. Its methods are safe for concurrent use.
type Overlay struct {
	cfg   Config
	log   *slog.Logger
	keys  *keyring
	queue *hashicorp.TransmitLimitedQueue
	drops dropCounter

	changed chan struct{}
	ran     atomic.Bool
	ml      atomic.Pointer[hashicorp.Memberlist] // while Run runs
	alive   atomic.Int32                         // number of alive members, for the queue

	mu      sync.Mutex // guards what follows; upstream is never called under it
	records record.Set
	members map[string]Member
}

// New validates cfg and reads the keyring. It opens no socket: see [Overlay.Run].
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

// Run takes part in the overlay until ctx ends, then returns nil. Before that it leaves: this node's latest records
// are sent to every member, so a withdrawal published before ctx ends is out when Run returns. That takes at most a
// second, and up to four more while a seed that does not answer is being joined. Run fails at once if it cannot
// listen. It may be called once.
//
// Upstream does not wait for its last probe, which may outlive Run by up to 1.4 s without any effect.
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
	loops.Go(func() { o.maintain(ctx) })
	<-ctx.Done()
	o.leave(ml)
	loops.Wait()
	o.ml.Store(nil)
	if err := ml.Shutdown(); err != nil {
		return fmt.Errorf("gossip on %s: close: %w", o.cfg.Bind, err)
	}
	o.log.Info("gossip stopped")
	return nil
}

// leave sends this node's latest records to every member once more, leaves, and allows time for queued records of
// others to be sent.
func (o *Overlay) leave(ml *hashicorp.Memberlist) {
	deadline := time.Now().Add(leaveTimeout)
	now := time.Now()
	for _, s := range o.Records().All() {
		if s.Publisher == o.cfg.Node && now.Before(s.Expires) {
			o.send(ml, s)
		}
	}
	alone := len(o.others()) == 0
	if err := ml.Leave(time.Until(deadline)); err != nil {
		// Some members know, and the rest learn it from them or by their own probes.
		o.log.Debug("leave cut short", "error", err)
	}
	for !alone && o.queue.NumQueued() > 0 && time.Now().Before(deadline) {
		time.Sleep(gossipInterval)
	}
}

// send sends s to every member, one packet each. Gossip would do the same, but later, and misses a node now and then;
// so here it only makes up for losses.
func (o *Overlay) send(ml *hashicorp.Memberlist, s record.Signed) {
	wire := s.Encode()
	for _, m := range o.others() {
		if err := ml.SendToAddress(hashicorp.Address{Addr: m.Addr.String(), Name: m.Name}, wire); err != nil {
			o.log.Debug("record not sent", "member", m.Name, "name", s.Name, "error", err)
		}
	}
}

// maintain reloads the key file and drops expired records, until ctx ends.
func (o *Overlay) maintain(ctx context.Context) {
	tick := time.NewTicker(maintainInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.keys.reload(o.log)
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

// Publish publishes a record of this node. It fails if other nodes would not accept s, and with [ErrStale] if s is
// not newer than this node's previous record, which after a restart may come back from others: a publisher watches
// [Overlay.Changed] for that. Publishing the same record again sends it again.
//
// A withdrawal should expire no earlier than the record that it withdraws, which could otherwise return. Records
// published before Run are sent once it runs.
func (o *Overlay) Publish(s record.Signed) error {
	if s.Publisher != o.cfg.Node {
		return fmt.Errorf("publish %q: record of node %q, but this is %q", s.Name, s.Publisher, o.cfg.Node)
	}
	if err := o.cfg.Verifier.Verify(s, time.Now()); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := o.addOwn(s); err != nil {
		return fmt.Errorf("publish %q at %s: %w", s.Name, s.Clock, err)
	}
	if ml := o.ml.Load(); ml != nil {
		o.send(ml, s)
	}
	return nil
}

func (o *Overlay) addOwn(s record.Signed) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if held, ok := o.records.Get(s.Key()); ok && held.Compare(s) > 0 {
		return fmt.Errorf("%w, at %s", ErrStale, held.Clock)
	}
	o.add(s)
	o.enqueue(s)
	return nil
}

// add adds s and reports whether it was newer. The caller holds mu.
func (o *Overlay) add(s record.Signed) bool {
	if !o.records.Add(s) {
		return false
	}
	o.signal()
	return true
}

// enqueue queues s for gossip, replacing the queued record of its key. The caller holds mu, so that the latest record
// is also enqueued last.
func (o *Overlay) enqueue(s record.Signed) {
	o.queue.QueueBroadcast(broadcast{key: s.Key(), msg: s.Encode()})
}

func (o *Overlay) signal() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// Changed returns a channel for a single reader. It receives a value after the records have changed, one for any
// number of changes since the last receive.
func (o *Overlay) Changed() <-chan struct{} { return o.changed }

// Records returns a copy of the records.
func (o *Overlay) Records() record.Set {
	o.mu.Lock()
	defer o.mu.Unlock()
	var s record.Set
	s.Merge(o.records)
	return s
}

// Stats are numbers about the overlay.
type Stats struct {
	Members int // alive, including this node
	Records int // including withdrawals
	Queued  int // records still being spread
	// Dropped counts refusals since the start, by reason. Every reason is present, also if zero.
	Dropped map[string]uint64
}

// Stats returns the current numbers.
func (o *Overlay) Stats() Stats {
	s := Stats{Members: int(o.alive.Load()), Queued: o.queue.NumQueued(), Dropped: o.drops.counts()}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Records = o.records.Len()
	return s
}
