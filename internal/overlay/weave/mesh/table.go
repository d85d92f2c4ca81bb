package mesh

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// maxPeers bounds the known peers. Records may contain any names, and anybody in the mesh can send them; the original
// breaks down before 500 peers.
const maxPeers = 4096

// maxEdges bounds the known connections of all peers together, for the same reason. A full mesh of 1000 peers has as
// many.
const maxEdges = 1 << 20

// unreachableTTL is how long an unreachable peer is kept.
const unreachableTTL = 30 * time.Second

// peer is what is known about one peer.
type peer struct {
	name       wire.Name
	nick       string
	uid        uint64 // 0 if known from others only
	version    uint64 // 0 until its own record was received
	shortID    uint16
	hasShortID bool
	edges      []edge

	link    *link        // our connection to it
	lost    time.Time    // unreachable since; zero if it is reachable
	encoded wire.Encoded // computed when needed
}

// edge is a connection that a peer claims to have.
type edge struct {
	to          *peer
	addr        string
	outbound    bool
	established bool
}

// table is the topology as known to this peer.
type table struct {
	self    *peer
	peers   map[wire.Name]*peer
	edges   int    // of all peers except self
	gen     uint64 // counts changes
	refused uint64 // peers and records refused because of the bounds
}

func newTable(self *peer) *table {
	return &table{self: self, peers: map[wire.Name]*peer{self.name: self}}
}

// applied is the result of an update.
type applied struct {
	fresh []*peer     // added or replaced
	named []wire.Name // known peers that the update has a record of
	same  []wire.Name // peers whose record we have in the same version
	stale bool        // a record of a former instance of us was received, and superseded
}

// apply applies an update. If a record that would be stored is malformed, nothing is changed.
func (t *table) apply(u *wire.Update) (applied, error) {
	wanted := make(map[int]wire.Record)
	for i, h := range u.Heads {
		if h.Name == t.self.name || !t.isNewer(h) {
			continue
		}
		r, err := u.Record(i)
		if err != nil {
			return applied{}, err
		}
		wanted[i] = r
	}
	var a applied
	for i, h := range u.Heads {
		if h.Name == t.self.name {
			a.stale = t.supersede(h) || a.stale
			a.named = append(a.named, h.Name)
			continue
		}
		if r, ok := wanted[i]; ok && t.isNewer(h) {
			if p := t.store(r); p != nil {
				a.fresh = append(a.fresh, p)
			}
		}
		if p := t.peers[h.Name]; p != nil {
			a.named = append(a.named, h.Name)
			if p.version == h.Version && p.uid == h.UID {
				a.same = append(a.same, h.Name)
			}
		}
	}
	return a, nil
}

// isNewer reports whether a record would replace the one we have.
func (t *table) isNewer(h wire.Head) bool {
	p := t.peers[h.Name]
	if p == nil {
		return true
	}
	if c := cmp.Or(cmp.Compare(h.Version, p.version), cmp.Compare(h.UID, p.uid)); c != 0 {
		return c > 0
	}
	return h.HasShortID && !p.hasShortID
}

// supersede handles a record of our own name. One with another UID is of a former instance of ours: others believe it
// until our version is greater.
func (t *table) supersede(h wire.Head) bool {
	if h.UID == t.self.uid || h.Version < t.self.version || h.Version == math.MaxUint64 {
		return false
	}
	t.self.version = h.Version + 1
	t.markChanged(t.self)
	return true
}

// store stores a record. It returns nil if there is no room for it.
func (t *table) store(r wire.Record) *peer {
	p := t.peer(r.Name)
	if p == nil {
		return nil
	}
	if t.edges+len(r.Links)-len(p.edges) > maxEdges {
		t.refused++
		return nil
	}
	t.edges -= len(p.edges)
	p.nick, p.uid, p.version, p.shortID, p.hasShortID = r.NickName, r.UID, r.Version, r.ShortID, r.HasShortID
	p.edges = make([]edge, 0, len(r.Links))
	for _, l := range r.Links {
		if to := t.peer(l.Name); to != nil {
			p.edges = append(p.edges, edge{to, l.Addr, l.Outbound, l.Established})
		}
	}
	t.edges += len(p.edges)
	t.markChanged(p)
	return p
}

// peer returns the named peer, adding a placeholder if it is unknown. It returns nil if there is no room.
func (t *table) peer(n wire.Name) *peer {
	p := t.peers[n]
	if p == nil {
		if len(t.peers) >= maxPeers {
			t.refused++
			return nil
		}
		p = &peer{name: n}
		t.peers[n] = p
		t.markChanged(p)
	}
	return p
}

// markChanged records a change of p.
func (t *table) markChanged(p *peer) {
	t.gen++
	p.encoded = wire.Encoded{}
}

// bumpVersion records a change of our own record.
func (t *table) bumpVersion() {
	if t.self.version < math.MaxUint64 {
		t.self.version++
	}
	t.markChanged(t.self)
}

// collect drops the peers that have been unreachable for unreachableTTL from us and our neighbours. It returns how
// many it dropped, whether the reachability of others has changed, and when to call it again.
//
// The delay is for records that arrive out of order. If a peer were dropped because the record that leads to it is a
// moment late, it would return without its own record, which neighbours send only once.
func (t *table) collect(now time.Time) (dropped int, changed bool, again time.Time) {
	reached := t.reachable()
	for n, p := range t.peers {
		if reached[p] {
			changed = changed || !p.lost.IsZero()
			p.lost = time.Time{}
			continue
		}
		changed = changed || p.lost.IsZero()
		setIfZero(&p.lost, now)
		if due := p.lost.Add(unreachableTTL); now.Before(due) {
			sooner(&again, due)
			continue
		}
		delete(t.peers, n)
		t.edges -= len(p.edges)
		dropped++
	}
	if dropped > 0 {
		t.dropStaleEdges(reached)
	}
	if dropped > 0 || changed {
		t.gen++
	}
	return dropped, changed, again
}

// reachable returns the peers that are reachable over claimed connections.
func (t *table) reachable() map[*peer]bool {
	reached := map[*peer]bool{t.self: true}
	queue := []*peer{t.self}
	for _, p := range t.peers {
		if p.link != nil {
			reached[p] = true
			queue = append(queue, p)
		}
	}
	for len(queue) > 0 {
		p := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, e := range p.edges {
			if !reached[e.to] {
				reached[e.to] = true
				queue = append(queue, e.to)
			}
		}
	}
	return reached
}

// dropStaleEdges removes the edges of unreachable peers to peers that have been dropped.
func (t *table) dropStaleEdges(reached map[*peer]bool) {
	for _, p := range t.peers {
		if !reached[p] {
			t.edges -= len(p.edges)
			p.edges = slices.DeleteFunc(p.edges, func(e edge) bool { return t.peers[e.to.name] != e.to })
			t.edges += len(p.edges)
		}
	}
}

// encode returns the encoding of a peer's record.
func (p *peer) encode() wire.Encoded {
	if p.encoded.Size() == 0 {
		p.encoded = p.record().Encode()
	}
	return p.encoded
}

func (p *peer) record() wire.Record {
	r := wire.Record{Name: p.name, NickName: p.nick, UID: p.uid, Version: p.version, ShortID: p.shortID, HasShortID: p.hasShortID}
	for _, e := range p.edges {
		r.Links = append(r.Links, wire.Link{Name: e.to.name, Addr: e.addr, Outbound: e.outbound, Established: e.established})
	}
	return r
}

// byDistance returns the reachable peers ordered by their distance from us, so that in any prefix of the list all
// peers are reachable.
func (t *table) byDistance() []*peer {
	seen := map[*peer]bool{t.self: true}
	order := []*peer{t.self}
	for i := 0; i < len(order); i++ {
		for _, e := range order[i].edges {
			if !seen[e.to] {
				seen[e.to] = true
				order = append(order, e.to)
			}
		}
	}
	// Neighbours that we do not claim because they claim nothing.
	for _, n := range slices.SortedFunc(maps.Keys(t.peers), wire.Name.Compare) {
		if p := t.peers[n]; p.link != nil && !seen[p] {
			order = append(order, p)
		}
	}
	return order
}

// participants returns the names of the reachable peers that claim connections, and our own, in order.
func (t *table) participants() []wire.Name {
	names := make([]wire.Name, 0, len(t.peers))
	for n, p := range t.peers {
		if p == t.self || p.version > 0 && len(p.edges) > 0 && p.lost.IsZero() {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, wire.Name.Compare)
	return names
}
