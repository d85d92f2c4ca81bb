package weave

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/mesh"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Peer is a peer as this one knows it.
type Peer = mesh.Peer

// Heard says where a record came from.
type Heard = mesh.Heard

// Faults of Read worth telling apart.
var (
	ErrVersion   = wire.ErrVersion   // speaks another version of the protocol
	ErrPlaintext = wire.ErrPlaintext // does not encrypt
	ErrSecret    = wire.ErrSecret    // uses another secret
	ErrCollision = mesh.ErrCollision // has the node name we gave
)

// Stats counts what has happened since the start.
type Stats struct {
	mesh.Stats
	Links               int    // connections now
	FramesIn, FramesOut uint64 // heartbeats included
	BytesIn, BytesOut   uint64 // in: contents of frames; out: as written to the sockets
}

// Publish writes value at key, with a version that exceeds the one held, and
// returns once it is on its way: see Flush. Writing what is there already does
// nothing. Written before the mesh was heard, a value that loses against what
// the mesh holds is written once more. It fails if the record is over the
// bounds of package legacy, or with legacy.ErrOutbid.
func (n *Node) Publish(key, value string) error {
	var err error
	n.do(func(now time.Time) { err = n.mesh.Put(now, key, value) })
	if err != nil {
		return fmt.Errorf("publish into the mesh: %w", err)
	}
	return nil
}

// Delete withdraws the record at key. It leaves a tombstone, which stays.
func (n *Node) Delete(key string) error {
	var err error
	n.do(func(now time.Time) { err = n.mesh.Delete(now, key) })
	if err != nil {
		return fmt.Errorf("withdraw from the mesh: %w", err)
	}
	return nil
}

// Flush waits until what was written has been handed to the system for every
// connection, of which there has to be at least one, or until ctx ends.
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
			return fmt.Errorf("send what was written to the mesh: %w", ctx.Err())
		}
	}
}

// State returns the whole state as heard, tombstones included, ordered by key.
// Nothing in it is to be believed before legacy.Policy has seen it.
func (n *Node) State() []legacy.Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mesh.Entries()
}

// Get returns the record at key, which may be a tombstone.
func (n *Node) Get(key string) (legacy.Record, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mesh.Get(key)
}

// Heard returns where the record at key came from.
func (n *Node) Heard(key string) (Heard, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mesh.Heard(key)
}

// Ties returns records that peers hold with one version but different values.
func (n *Node) Ties() []legacy.Tie {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mesh.Ties()
}

// Changed returns a channel that is closed when the state changes next. Take
// the channel first and the state after, and no change is missed.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Synced returns a channel that is closed once the whole state of some peer has
// been heard. In a mesh of one that never happens.
func (n *Node) Synced() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.synced
}

// Peers returns all peers known, self included, in the order of their names.
func (n *Node) Peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mesh.Peers()
}

// Stats returns what has happened since the start.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Stats{
		Stats:     n.mesh.Stats(),
		Links:     len(n.links),
		FramesIn:  n.traffic.framesIn.Load(),
		FramesOut: n.traffic.framesOut.Load(),
		BytesIn:   n.traffic.bytesIn.Load(),
		BytesOut:  n.traffic.bytesOut.Load(),
	}
}

// Addr waits until Run listens and returns the address. That of a leaf is not
// valid.
func (n *Node) Addr(ctx context.Context) (netip.AddrPort, error) {
	select {
	case <-n.bound:
		return n.addr, nil
	case <-ctx.Done():
		return netip.AddrPort{}, ctx.Err()
	}
}
