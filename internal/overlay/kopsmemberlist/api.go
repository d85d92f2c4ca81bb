package kopsmemberlist

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Status is how a member is seen. A Node itself knows of alive and dead alone:
// upstream does not tell why somebody is gone, and suspects may still refute.
type Status = wire.Status

// The statuses.
const (
	Alive   = wire.Alive
	Suspect = wire.Suspect
	Dead    = wire.Dead
	Left    = wire.Left
)

// Member is a member as the peer describes it that Read visited.
type Member = wire.Member

// ErrEncrypted is returned by Read for an overlay that cannot be kOps's.
var ErrEncrypted = wire.ErrEncrypted

// Peer is a member as this one knows it.
type Peer struct {
	Name   string
	Addr   netip.AddrPort
	Status Status    // alive, or dead for who left or fell silent in the last six hours
	Since  time.Time // of Status
	Self   bool
}

// Stats counts what has happened since the start.
type Stats struct {
	Members   int    // alive now, this one included
	Messages  uint64 // that others spread a change with
	States    uint64 // full states of others heard
	Malformed uint64 // of both, what could not be used
	Refused   uint64 // records left out because of the bounds of package legacy
	Sent      uint64 // times that a member was sent our state because of a change
	Unsent    uint64 // times that it could not be
}

// Publish writes value at key, with a version that exceeds the one held, and
// returns once it is on its way: see Flush. Writing what is there already does
// nothing. Written before the overlay was heard, a value that loses against what
// the overlay holds is written once more. It fails if the record is over the
// bounds of package legacy, or with legacy.ErrOutbid.
func (n *Node) Publish(key, value string) error {
	if err := n.write(key, legacy.Record{Value: value}); err != nil {
		return fmt.Errorf("publish into the memberlist overlay: %w", err)
	}
	return nil
}

// Delete withdraws the record at key. It leaves a tombstone, which stays.
func (n *Node) Delete(key string) error {
	if err := n.write(key, legacy.Record{Tombstone: true}); err != nil {
		return fmt.Errorf("withdraw from the memberlist overlay: %w", err)
	}
	return nil
}

// Flush waits until every member, of which there has to be at least one, was sent
// what was written or could not be reached, or until ctx ends.
func (n *Node) Flush(ctx context.Context) error {
	for {
		n.mu.Lock()
		if n.isQuiet() {
			n.mu.Unlock()
			return nil
		}
		if n.quiet == nil {
			n.quiet = make(chan struct{})
		}
		quiet := n.quiet
		n.mu.Unlock()
		select {
		case <-quiet:
		case <-ctx.Done():
			return fmt.Errorf("send what was written to the memberlist overlay: %w", ctx.Err())
		}
	}
}

// State returns the whole state as heard, tombstones included, ordered by key.
// Nothing in it is to be believed before legacy.Policy has seen it.
func (n *Node) State() []legacy.Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.board.state.Entries()
}

// Get returns the record at key, which may be a tombstone.
func (n *Node) Get(key string) (legacy.Record, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.board.state.Get(key)
}

// Ties returns records that members hold with one version but different values.
func (n *Node) Ties() []legacy.Tie {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.board.tieList()
}

// Changed returns a channel that is closed when the state changes next. Take the
// channel first and the state after, and no change is missed.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Synced returns a channel that is closed once the whole state of some member has
// been heard. In an overlay of one that never happens.
func (n *Node) Synced() <-chan struct{} { return n.synced }

// Peers returns all members known, this one included once Run has begun, in the
// order of their names.
func (n *Node) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	peers := make([]Peer, 0, len(n.members))
	for name, m := range n.members {
		p := Peer{Name: name, Addr: m.addr, Since: m.since, Self: name == n.cfg.NodeName}
		if m.gone {
			p.Status = Dead
		}
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return peers
}

// Stats returns what has happened since the start.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.board.stats
	s.Members = int(n.alive.Load())
	return s
}

// Addr waits until Run listens and returns the address at which others reach this
// member.
func (n *Node) Addr(ctx context.Context) (netip.AddrPort, error) {
	select {
	case <-n.bound:
		return n.addr, nil
	case <-ctx.Done():
		return netip.AddrPort{}, ctx.Err()
	}
}
