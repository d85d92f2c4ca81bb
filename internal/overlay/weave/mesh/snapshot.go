package mesh

import (
	"maps"
	"slices"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Peer is a peer as seen by this one.
type Peer struct {
	Name      wire.Name
	NickName  string // empty if known from others only
	UID       uint64 // 0 if known from others only
	Version   uint64 // of its record; 0 if it has sent none
	Links     []wire.Link
	Self      bool
	Connected bool // to us
	Reachable bool // over connections that peers claim, or directly
}

// Entries returns the whole state, tombstones included, ordered by key.
func (m *Mesh) Entries() []legacy.Entry { return m.state.Entries() }

// Get returns the record at key, which may be a tombstone.
func (m *Mesh) Get(key string) (legacy.Record, bool) { return m.state.Get(key) }

// Ties returns records for which another peer has another value with the same version, ordered by key: both stay
// until the key is written again.
func (m *Mesh) Ties() []legacy.Tie {
	ties := make([]legacy.Tie, 0, len(m.ties))
	for _, key := range slices.Sorted(maps.Keys(m.ties)) {
		ties = append(ties, m.ties[key])
	}
	return ties
}

// Peers returns all known peers, including this one, ordered by name.
func (m *Mesh) Peers() []Peer {
	r := newRoutes(m.table)
	peers := make([]Peer, len(r.peers))
	for i, p := range r.peers {
		rec := p.record()
		peers[i] = Peer{
			Name: p.name, NickName: p.nick, UID: p.uid, Version: p.version, Links: rec.Links,
			Self: p == m.table.self, Connected: p.link != nil, Reachable: p == m.table.self || p.link != nil || r.hop[i] != none,
		}
	}
	return peers
}

// Heard returns where the record at key came from.
func (m *Mesh) Heard(key string) (Heard, bool) {
	h, ok := m.heard[key]
	return h, ok
}

// Links returns the number of connections.
func (m *Mesh) Links() int { return len(m.links) }

// Name returns our own name.
func (m *Mesh) Name() wire.Name { return m.table.self.name }

// Stats returns what has happened since the start.
func (m *Mesh) Stats() Stats {
	s := m.stats
	s.Messages = maps.Clone(s.Messages)
	s.Settled = m.firstChange.IsZero() && m.missingLinks == 0 && len(m.links) > 0
	return s
}
