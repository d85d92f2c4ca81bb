package mesh

import (
	"maps"
	"slices"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Peer is a peer as this one knows it.
type Peer struct {
	Name      wire.Name
	NickName  string // empty if only others have named it
	UID       uint64 // 0 if only others have named it
	Version   uint64 // of its record; 0 if it has claimed nothing
	Links     []wire.Link
	Self      bool
	Connected bool // with us
	Reachable bool // over connections that peers claim, or connected
}

// Entries returns the whole state, tombstones included, ordered by key.
func (m *Mesh) Entries() []legacy.Entry { return m.state.Entries() }

// Get returns the record at key, which may be a tombstone.
func (m *Mesh) Get(key string) (legacy.Record, bool) { return m.state.Get(key) }

// Ties returns records that another peer holds with the same version but
// another value, ordered by key: both stay until somebody writes again.
func (m *Mesh) Ties() []legacy.Tie {
	ties := make([]legacy.Tie, 0, len(m.ties))
	for _, key := range slices.Sorted(maps.Keys(m.ties)) {
		ties = append(ties, m.ties[key])
	}
	return ties
}

// Peers returns all peers known, self included, in the order of their names.
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
	s.Settled = m.news.IsZero() && m.missing == 0 && len(m.links) > 0
	return s
}
