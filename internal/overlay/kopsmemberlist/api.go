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

// Status is the status of a member. A Node only uses Alive and Dead: upstream does not tell why a member is gone, and
// suspects may still refute.
type Status = wire.Status

// The statuses.
const (
	Alive   = wire.Alive
	Suspect = wire.Suspect
	Dead    = wire.Dead
	Left    = wire.Left
)

// Member is a member as described by the peer that Read visited.
type Member = wire.Member

// ErrEncrypted is returned by Read for an encrypted overlay, which cannot be kOps's.
var ErrEncrypted = wire.ErrEncrypted

// Peer is a member as seen by this one.
type Peer struct {
	Name   string
	Addr   netip.AddrPort
	Status Status    // Alive, or Dead for members that left or failed in the last six hours
	Since  time.Time // of Status
	Self   bool
}

// Stats counts what has happened since the start.
type Stats struct {
	Members   int    // alive now, including this one
	Messages  uint64 // messages received after changes
	States    uint64 // full states received
	Malformed uint64 // of both, those that could not be used
	Refused   uint64 // records left out because of the bounds of package legacy
	Sent      uint64 // successful sends of our state after a change
	Unsent    uint64 // failed ones
}

// Publish writes value at key, with a version that exceeds the one held. It returns before the value is sent: see
// Flush. An equal value changes nothing. A value written before the overlay's state was received, and overridden by
// it, is written again. It fails if the record exceeds the bounds of package legacy, or with legacy.ErrOutbid.
func (n *Node) Publish(key, value string) error {
	if err := n.write(key, legacy.Record{Value: value}); err != nil {
		return fmt.Errorf("publish into the memberlist overlay: %w", err)
	}
	return nil
}

// Delete writes a tombstone at key.
func (n *Node) Delete(key string) error {
	if err := n.write(key, legacy.Record{Tombstone: true}); err != nil {
		return fmt.Errorf("withdraw from the memberlist overlay: %w", err)
	}
	return nil
}

// Flush waits until the last write was sent to every member, or the send failed, or until ctx ends. There must be at
// least one other member.
func (n *Node) Flush(ctx context.Context) error {
	for {
		n.mu.Lock()
		if n.isFlushed() {
			n.mu.Unlock()
			return nil
		}
		if n.flushed == nil {
			n.flushed = make(chan struct{})
		}
		flushed := n.flushed
		n.mu.Unlock()
		select {
		case <-flushed:
		case <-ctx.Done():
			return fmt.Errorf("send what was written to the memberlist overlay: %w", ctx.Err())
		}
	}
}

// State returns the whole state, tombstones included, ordered by key. Apply a legacy.Policy before using it.
func (n *Node) State() []legacy.Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.shared.state.Entries()
}

// Get returns the record at key, which may be a tombstone.
func (n *Node) Get(key string) (legacy.Record, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.shared.state.Get(key)
}

// Ties returns records for which members have different values with one version.
func (n *Node) Ties() []legacy.Tie {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.shared.tieList()
}

// Changed returns a channel that is closed at the next change of the state. Get the channel before the state, and no
// change is missed.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Synced returns a channel that is closed once the full state of another member has been received. In an overlay of
// one that never happens.
func (n *Node) Synced() <-chan struct{} { return n.synced }

// Peers returns all known members ordered by name, including this one once Run has begun.
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
	s := n.shared.stats
	s.Members = int(n.alive.Load())
	return s
}

// Addr waits until Run listens, and returns this member's address.
func (n *Node) Addr(ctx context.Context) (netip.AddrPort, error) {
	select {
	case <-n.bound:
		return n.addr, nil
	case <-ctx.Done():
		return netip.AddrPort{}, ctx.Err()
	}
}
