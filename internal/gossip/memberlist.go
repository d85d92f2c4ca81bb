package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// MemberlistReader reads peers of the kops-memberlist overlay.
type MemberlistReader struct{ Dial visit.Dialer }

// Read implements Reader.
func (r MemberlistReader) Read(ctx context.Context, addr netip.AddrPort) (View, error) {
	got, err := visit.Read(ctx, r.Dial, addr)
	if err != nil {
		return View{}, explainMemberlist(err)
	}
	return memberlistView(addr, got), nil
}

func memberlistView(addr netip.AddrPort, got visit.Reading) View {
	v := View{Overlay: Memberlist, Addr: addr, Node: addr.String(), State: got.State, Ties: got.Ties}
	for _, m := range got.Members {
		p := Peer{ID: clip(m.Name, maxName), Addr: m.Addr, State: stateOf(m.Status)}
		if m.Addr == addr {
			v.NodeID = p.ID
		}
		v.Peers = append(v.Peers, p)
	}
	slices.SortFunc(v.Peers, func(a, b Peer) int {
		return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(a.ID, b.ID))
	})
	return v
}

func stateOf(s wire.Status) PeerState {
	switch s {
	case wire.Alive:
		return Alive
	case wire.Suspect:
		return Suspect
	case wire.Left:
		return Left
	}
	return Dead
}

// explainMemberlist adds a hint to an error: what to do about it.
func explainMemberlist(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Errorf("%w; no answer; is the port right (protokube: 4000) and open from here? --via kubernetes goes through the API server", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; nothing listens there; protokube listens on 4000, dns-controller on 3993 of the same node", err)
	case errors.As(err, &op) && op.Op == "dial":
		return err
	}
	// Something answered, but not as expected.
	return fmt.Errorf("%w; no kops-memberlist peer of kOps answers there; try --overlay weave, or port 4000", err)
}

// pollInterval is how often a leaf of kops-memberlist reads the full state. Only members receive changes in this
// overlay, and every other member would have to reach us.
const pollInterval = time.Second

// MemberlistLeaf polls the kops-memberlist overlay over TCP, and writes by sending to every member. It is not a
// member itself.
type MemberlistLeaf struct {
	dial visit.Dialer
	at   []netip.AddrPort

	synced chan struct{} // closed once a visit has succeeded

	mu       sync.Mutex // guards what follows
	state    legacy.State
	source   map[string]string // by key: who sent the record first
	own      map[string]bool   // keys that we have written
	peers    []Peer
	isSynced bool
	failures int           // failed visits in a row
	changed  chan struct{} // closed at the next change
}

// NewMemberlistLeaf returns a leaf that visits the peers at the given addresses in turn.
func NewMemberlistLeaf(dial visit.Dialer, at []netip.AddrPort) *MemberlistLeaf {
	return &MemberlistLeaf{dial: dial, at: at, synced: make(chan struct{}), source: make(map[string]string), own: make(map[string]bool), changed: make(chan struct{})}
}

// Run implements Leaf.
func (l *MemberlistLeaf) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for i := 0; ; i++ {
		addr := l.at[i%len(l.at)]
		visitCtx, cancel := context.WithTimeout(ctx, visitTimeout)
		got, err := visit.Read(visitCtx, l.dial, addr)
		if missing := l.update(memberlistView(addr, got), err); len(missing) > 0 {
			// If it fails, the next visit tries again.
			_, _ = visit.Push(visitCtx, l.dial, addr, missing...)
		}
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// update takes over the result of a visit, and returns those of our records that the peer lacks because we could not
// reach it or it has restarted. When visits to all peers in a row have failed, the known peers are dropped.
func (l *MemberlistLeaf) update(v View, err error) (missing []legacy.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.failures++; l.failures >= len(l.at) {
			l.peers = nil
		}
		return nil
	}
	l.failures, l.peers = 0, v.Peers
	l.merge(v.State, "first told by "+v.Node)
	if !l.isSynced {
		l.isSynced = true
		close(l.synced)
	}
	for key := range l.own {
		record, _ := l.state.Get(key)
		mine := legacy.Entry{Key: key, Record: record}
		if !slices.ContainsFunc(v.State, func(e legacy.Entry) bool { return e.Key == key && e.Version >= record.Version }) {
			missing = append(missing, mine)
		}
	}
	return missing
}

// merge merges records that came from by. The caller holds mu.
func (l *MemberlistLeaf) merge(entries []legacy.Entry, by string) {
	// Merge only fails to decode, and this encoding is ours.
	merged, _ := l.state.Merge(legacy.Append(nil, entries...))
	for _, key := range merged.Changed {
		l.source[key] = by
	}
	if len(merged.Changed) > 0 {
		l.notify()
	}
}

func (l *MemberlistLeaf) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Synced implements Leaf.
func (l *MemberlistLeaf) Synced() <-chan struct{} { return l.synced }

// Changed implements Leaf.
func (l *MemberlistLeaf) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// State implements Leaf.
func (l *MemberlistLeaf) State() []legacy.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Entries()
}

// Peers implements Leaf.
func (l *MemberlistLeaf) Peers() []Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.peers)
}

// Told implements Leaf.
func (l *MemberlistLeaf) Told(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source[key]
}

// Put implements Writer.
func (l *MemberlistLeaf) Put(ctx context.Context, key, value string) error {
	return l.write(ctx, key, func(now time.Time) (bool, error) { return l.state.Put(key, value, now) })
}

// Delete implements Writer.
func (l *MemberlistLeaf) Delete(ctx context.Context, key string) error {
	return l.write(ctx, key, func(now time.Time) (bool, error) { return l.state.Delete(key, now) })
}

func (l *MemberlistLeaf) write(ctx context.Context, key string, put func(time.Time) (bool, error)) error {
	l.mu.Lock()
	changed, err := put(time.Now())
	if err != nil || !changed {
		l.mu.Unlock()
		return err
	}
	l.source[key], l.own[key] = "us", true
	l.notify()
	record, _ := l.state.Get(key)
	members := make(map[netip.AddrPort]bool)
	for _, a := range l.at {
		members[a] = true
	}
	for _, p := range l.peers {
		if p.State == Alive && p.Addr.IsValid() {
			members[p.Addr] = true
		}
	}
	l.mu.Unlock()
	return l.announce(ctx, slices.Collect(maps.Keys(members)), legacy.Entry{Key: key, Record: record})
}

// announce sends a record to every member, because members do not pass it on. One that we cannot reach gets it from
// the others within minutes.
func (l *MemberlistLeaf) announce(ctx context.Context, members []netip.AddrPort, e legacy.Entry) error {
	errs := make([]error, len(members))
	var group sync.WaitGroup
	slots := make(chan struct{}, maxReads)
	for i, addr := range members {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			visitCtx, cancel := context.WithTimeout(ctx, visitTimeout)
			defer cancel()
			_, errs[i] = visit.Push(visitCtx, l.dial, addr, e)
		})
	}
	group.Wait()
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("no member could be told: %w", errs[0])
}
