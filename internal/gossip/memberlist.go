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

// explainMemberlist makes one line of a fault: what, where, what to do.
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
	// Something answered, and not as it should.
	return fmt.Errorf("%w; no kops-memberlist peer of kOps answers there; try --overlay weave, or port 4000", err)
}

// pollEvery is how often a leaf of kops-memberlist asks. An answer is the whole
// state; this overlay has no way to be told of changes but to become a member,
// which every other member would have to reach.
const pollEvery = time.Second

// MemberlistLeaf looks into the kops-memberlist overlay again and again over
// TCP, and writes by telling every member. It is no member.
type MemberlistLeaf struct {
	dial visit.Dialer
	at   []netip.AddrPort

	synced chan struct{} // closed once something was heard

	mu      sync.Mutex // guards what follows
	state   legacy.State
	told    map[string]string // who told a record first
	own     map[string]bool   // keys that we have written
	peers   []Peer
	heard   bool
	missed  int           // visits in a row that told nothing
	changed chan struct{} // closed at the next change
}

// NewMemberlistLeaf returns a leaf that asks the peers at the given addresses in
// turn.
func NewMemberlistLeaf(dial visit.Dialer, at []netip.AddrPort) *MemberlistLeaf {
	return &MemberlistLeaf{dial: dial, at: at, synced: make(chan struct{}), told: make(map[string]string), own: make(map[string]bool), changed: make(chan struct{})}
}

// Run implements Leaf.
func (l *MemberlistLeaf) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for i := 0; ; i++ {
		addr := l.at[i%len(l.at)]
		limited, cancel := context.WithTimeout(ctx, askFor)
		got, err := visit.Read(limited, l.dial, addr)
		if lags := l.note(memberlistView(addr, got), err); len(lags) > 0 {
			// What goes wrong here is tried again at the next visit.
			_, _ = visit.Tell(limited, l.dial, addr, lags...)
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

// note takes in a visit, and returns what of ours the one visited has not got:
// it could not be told, or has started anew. Once nobody in turn has told
// anything, nothing is known of the peers.
func (l *MemberlistLeaf) note(v View, err error) (lags []legacy.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.missed++; l.missed >= len(l.at) {
			l.peers = nil
		}
		return nil
	}
	l.missed, l.peers = 0, v.Peers
	l.merge(v.State, "first told by "+v.Node)
	if !l.heard {
		l.heard = true
		close(l.synced)
	}
	for key := range l.own {
		record, _ := l.state.Get(key)
		mine := legacy.Entry{Key: key, Record: record}
		if !slices.ContainsFunc(v.State, func(e legacy.Entry) bool { return e.Key == key && e.Version >= record.Version }) {
			lags = append(lags, mine)
		}
	}
	return lags
}

// merge takes in records. The caller holds mu.
func (l *MemberlistLeaf) merge(entries []legacy.Entry, by string) {
	// The error is about encodings that do not decode, and this one is ours.
	merged, _ := l.state.Merge(legacy.Append(nil, entries...))
	for _, key := range merged.Changed {
		l.told[key] = by
	}
	if len(merged.Changed) > 0 {
		l.flip()
	}
}

func (l *MemberlistLeaf) flip() {
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
	return l.told[key]
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
	l.told[key], l.own[key] = "us", true
	l.flip()
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
	return l.tell(ctx, slices.Collect(maps.Keys(members)), legacy.Entry{Key: key, Record: record})
}

// tell tells every member, because members do not pass on what they are told.
// One that is not open to us hears of it from others, in a minute or a few.
func (l *MemberlistLeaf) tell(ctx context.Context, members []netip.AddrPort, e legacy.Entry) error {
	errs := make([]error, len(members))
	var group sync.WaitGroup
	room := make(chan struct{}, readAtOnce)
	for i, addr := range members {
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			limited, cancel := context.WithTimeout(ctx, askFor)
			defer cancel()
			_, errs[i] = visit.Tell(limited, l.dial, addr, e)
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
