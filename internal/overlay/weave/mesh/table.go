package mesh

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// maxPeers bounds the peers known. Names come from records that anybody in the
// mesh may make up; the original protocol breaks down before 500 peers.
const maxPeers = 4096

// maxEdges bounds the connections known of all peers together, for the same
// reason. A full mesh of 1000 peers has as many.
const maxEdges = 1 << 20

// keepLost is how long an unreachable peer is kept.
const keepLost = 30 * time.Second

// peer is what is known of one peer.
type peer struct {
	name       wire.Name
	nick       string
	uid        uint64 // 0 if only others have named it
	version    uint64 // 0 until it has said something itself
	shortID    uint16
	hasShortID bool
	edges      []edge

	link    *link        // our connection to it
	lost    time.Time    // since when it is unreachable
	encoded wire.Encoded // made when first needed
}

// edge is a connection that a peer claims to have.
type edge struct {
	to          *peer
	addr        string
	outbound    bool
	established bool
}

// table is the topology as known to one peer.
type table struct {
	self    *peer
	peers   map[wire.Name]*peer
	edges   int    // of all peers but self
	gen     uint64 // counts changes
	refused uint64 // peers and records left out because of the bounds
}

func newTable(self *peer) *table {
	return &table{self: self, peers: map[wire.Name]*peer{self.name: self}}
}

// applied is what an update did.
type applied struct {
	fresh []*peer     // added or replaced
	named []wire.Name // all that the update has a record of, as far as known
	same  []wire.Name // whose record we hold just as it came
	stale bool        // a former incarnation of self was seen; self has outbid it
}

// apply takes in an update. If any record that would be taken is malformed,
// nothing is changed.
func (t *table) apply(u *wire.Update) (applied, error) {
	wanted := make(map[int]wire.Record)
	for i, h := range u.Heads {
		if h.Name == t.self.name || !t.news(h) {
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
			a.stale = t.outbid(h) || a.stale
			a.named = append(a.named, h.Name)
			continue
		}
		if r, ok := wanted[i]; ok && t.news(h) {
			if p := t.take(r); p != nil {
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

// news reports whether a record would replace what is known.
func (t *table) news(h wire.Head) bool {
	p := t.peers[h.Name]
	if p == nil {
		return true
	}
	if c := cmp.Or(cmp.Compare(h.Version, p.version), cmp.Compare(h.UID, p.uid)); c != 0 {
		return c > 0
	}
	return h.HasShortID && !p.hasShortID
}

// outbid deals with a record of our own name. Another UID is a former life of
// ours: others believe its claims until our version exceeds it.
func (t *table) outbid(h wire.Head) bool {
	if h.UID == t.self.uid || h.Version < t.self.version || h.Version == math.MaxUint64 {
		return false
	}
	t.self.version = h.Version + 1
	t.touch(t.self)
	return true
}

// take puts a record in place. It returns nil if there is no room for the peer.
func (t *table) take(r wire.Record) *peer {
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
	t.touch(p)
	return p
}

// peer returns the peer of the given name, adding a placeholder if it is
// unknown. It returns nil if there is no room.
func (t *table) peer(n wire.Name) *peer {
	p := t.peers[n]
	if p == nil {
		if len(t.peers) >= maxPeers {
			t.refused++
			return nil
		}
		p = &peer{name: n}
		t.peers[n] = p
		t.touch(p)
	}
	return p
}

// touch notes that p has changed.
func (t *table) touch(p *peer) {
	t.gen++
	p.encoded = wire.Encoded{}
}

// bump notes a change of our own record.
func (t *table) bump() {
	if t.self.version < math.MaxUint64 {
		t.self.version++
	}
	t.touch(t.self)
}

// collect drops the peers that no chain of claimed connections has led to for
// a while, from us or our neighbours. It returns how many it dropped, whether
// others have become reachable or ceased to be, and when to look again.
//
// The wait is for records that overtake each other. A peer dropped because the
// record that leads to it is a moment late would come back without its own
// record: neighbours say everything only once.
func (t *table) collect(now time.Time) (dropped int, changed bool, again time.Time) {
	reached := t.reachable()
	for n, p := range t.peers {
		if reached[p] {
			changed = changed || !p.lost.IsZero()
			p.lost = time.Time{}
			continue
		}
		changed = changed || p.lost.IsZero()
		ifUnset(&p.lost, now)
		if due := p.lost.Add(keepLost); now.Before(due) {
			sooner(&again, due)
			continue
		}
		delete(t.peers, n)
		t.edges -= len(p.edges)
		dropped++
	}
	if dropped > 0 {
		t.unname(reached)
	}
	if dropped > 0 || changed {
		t.gen++
	}
	return dropped, changed, again
}

// reachable returns the peers that claimed connections lead to.
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

// unname removes claims of unreachable peers on peers that have been dropped.
func (t *table) unname(reached map[*peer]bool) {
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

// nearest returns the reachable peers in the order of their distance from us, so that
// whoever takes in the first part of the list can reach all that are in it.
func (t *table) nearest() []*peer {
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
	// Neighbours that we do not claim, because they claim nothing.
	for _, n := range slices.SortedFunc(maps.Keys(t.peers), wire.Name.Compare) {
		if p := t.peers[n]; p.link != nil && !seen[p] {
			order = append(order, p)
		}
	}
	return order
}

// participants returns the names of the reachable peers that claim connections, self
// included, in order.
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
