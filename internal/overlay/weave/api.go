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

// Peer is a peer as seen by this one.
type Peer = mesh.Peer

// Heard says how a record reached this peer.
type Heard = mesh.Heard

// Errors of Read that callers may want to tell apart.
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
	FramesIn, FramesOut uint64 // including heartbeats
	BytesIn, BytesOut   uint64 // in: contents of frames; out: as written to the sockets
}

// Publish writes value at key, with a version that exceeds the one held. It returns before the value is sent: see
// Flush. An equal value changes nothing. A value written before the mesh's state was received, and overridden by it,
// is written again. It fails if the record exceeds the bounds of package legacy, or with legacy.ErrOutbid.
func (n *Node) Publish(key, value string) error {
	var err error
	n.withMesh(func(now time.Time) { err = n.mesh.Put(now, key, value) })
	if err != nil {
		return fmt.Errorf("publish into the mesh: %w", err)
	}
	return nil
}

// Delete writes a tombstone at key.
func (n *Node) Delete(key string) error {
	var err error
	n.withMesh(func(now time.Time) { err = n.mesh.Delete(now, key) })
	if err != nil {
		return fmt.Errorf("withdraw from the mesh: %w", err)
	}
	return nil
}

// Flush waits until the last write has been written to the socket of every connection, or until ctx ends. There must
// be at least one connection.
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
			return fmt.Errorf("send what was written to the mesh: %w", ctx.Err())
		}
	}
}

// State returns the whole state, tombstones included, ordered by key. Apply a legacy.Policy before using it.
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

// Ties returns records for which peers have different values with one version.
func (n *Node) Ties() []legacy.Tie {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mesh.Ties()
}

// Changed returns a channel that is closed at the next change of the state. Get the channel before the state, and no
// change is missed.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Synced returns a channel that is closed once the full state of another peer has been received. In a mesh of one
// that never happens.
func (n *Node) Synced() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.synced
}

// Peers returns all known peers, including this one, ordered by name.
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

// Addr waits until Run listens and returns the address. A leaf's is not valid.
func (n *Node) Addr(ctx context.Context) (netip.AddrPort, error) {
	select {
	case <-n.bound:
		return n.addr, nil
	case <-ctx.Done():
		return netip.AddrPort{}, ctx.Err()
	}
}
