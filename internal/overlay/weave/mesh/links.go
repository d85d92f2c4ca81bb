package mesh

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

func (m *Mesh) link(id LinkID) *link {
	i, ok := slices.BinarySearchFunc(m.links, id, func(l *link, id LinkID) int { return cmp.Compare(l.id, id) })
	if !ok {
		return nil
	}
	return m.links[i]
}

// Register makes a connection part of the mesh, or says why not: then the
// caller closes it and, if it dialed, calls Failed. Another connection to the same peer may be closed for it.
func (m *Mesh) Register(now time.Time, h Hello) (LinkID, error) {
	l, err := m.register(now, h)
	if h.Outbound {
		m.answered(h, l)
	}
	if err != nil {
		return 0, err
	}
	m.greet(now, l)
	return l.id, nil
}

func (m *Mesh) register(now time.Time, h Hello) (*link, error) {
	self := m.table.self
	if h.Remote.Name == self.name {
		if h.Remote.UID == self.uid {
			return nil, ErrSelf
		}
		m.notice("another live peer (%q at %s) uses our node name; one of them has to stop", h.Remote.NickName, h.Addr)
		return nil, ErrCollision
	}
	p := m.table.peers[h.Remote.Name]
	if p == nil && h.Outbound && m.discovered(h.Target) {
		return nil, ErrStranger
	}
	l := &link{uid: h.ConnID ^ h.Remote.ConnID, addr: h.Addr, outbound: h.Outbound, target: h.Target, since: now}
	if err := m.replace(now, p, l); err != nil {
		return nil, err
	}
	if m.cfg.ConnLimit > 0 && len(m.links) >= m.cfg.ConnLimit {
		return nil, ErrLimit
	}
	// A placeholder has UID 0 and counts as restarted too.
	l.dump = l.dump || p == nil || p.uid != h.Remote.UID || !m.route(now).routed(p)
	if p = m.table.peer(h.Remote.Name); p == nil {
		return nil, ErrLimit
	}
	if p.version == 0 {
		p.nick, p.uid, p.shortID, p.hasShortID = h.Remote.NickName, h.Remote.UID, h.Remote.ShortID, h.Remote.HasShortID
		m.table.touch(p)
	}
	m.nextID++
	l.id, l.peer, p.link = m.nextID, p, l
	m.links = append(m.links, l)
	m.routesDue = now
	m.claim(now)
	sooner(&m.planDue, now)
	return l, nil
}

// replace decides which of two connections to one peer stays. Both ends see the
// same uid, so that they agree.
func (m *Mesh) replace(now time.Time, p *peer, l *link) error {
	if p == nil || p.link == nil {
		return nil
	}
	switch c := cmp.Compare(l.uid, p.link.uid); {
	case c > 0:
		return ErrDuplicate
	case c == 0:
		m.drop(now, p.link, ErrDuplicate)
		return ErrDuplicate
	}
	// What was on its way over the old connection may be lost.
	l.dump = true
	m.drop(now, p.link, ErrReplaced)
	return nil
}

// greet queues what a new neighbour is to hear first.
func (m *Mesh) greet(now time.Time, l *link) {
	if m.cfg.Leaf {
		for key := range m.own {
			l.out.addKey(key)
		}
	} else {
		// The protocol sends the state only together with the topology. It is
		// small, and a new connection is often the end of a disturbance.
		l.out.stateAll = true
		l.fullAt = now
		l.out.topologyAll = l.dump
	}
	m.ready(l)
}

// Close takes a connection out of the mesh that has ended by itself. It does
// nothing if the Mesh has taken it out already.
func (m *Mesh) Close(now time.Time, id LinkID) {
	if l := m.link(id); l != nil {
		m.remove(now, l)
	}
}

// drop takes a connection out of the mesh and has the shell close it.
func (m *Mesh) drop(now time.Time, l *link, reason error) {
	m.remove(now, l)
	m.effects.Close = append(m.effects.Close, Closing{l.id, reason})
}

func (m *Mesh) remove(now time.Time, l *link) {
	i := slices.Index(m.links, l)
	m.links = slices.Delete(m.links, i, i+1)
	l.peer.link = nil
	m.routesDue = now
	m.collectDue = now
	m.claim(now)
	m.ended(now, l)
	sooner(&m.planDue, now)
}

// claim makes our record claim the connections that it should: those to peers
// that claim any themselves. A leaf claims none.
func (m *Mesh) claim(now time.Time) {
	if m.cfg.Leaf {
		return
	}
	self := m.table.self
	edges := make([]edge, 0, len(m.links))
	for _, l := range m.links {
		if l.peer.version > 0 {
			edges = append(edges, edge{l.peer, l.addr, l.outbound, true})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.to.name.Compare(b.to.name) })
	if slices.Equal(edges, self.edges) {
		return
	}
	for _, e := range edges {
		if !slices.Contains(self.edges, e) {
			m.updated[e.to.name] = struct{}{}
		}
	}
	self.edges = edges
	m.table.bump()
	ifUnset(&m.updateDue, now.Add(updateAfter))
}

// ready has the shell ask for frames of l.
func (m *Mesh) ready(l *link) {
	if !l.out.notified && !l.out.empty() {
		l.out.notified = true
		m.effects.Ready = append(m.effects.Ready, l.id)
	}
}

// route returns the routes, computed anew if a change of the topology has been
// waiting long enough.
func (m *Mesh) route(now time.Time) *routes {
	if m.routes == nil || !m.routesDue.IsZero() && !now.Before(m.routesDue) {
		m.routes, m.routesDue = newRoutes(m.table), time.Time{}
		m.stats.Routes++
	}
	return m.routes
}

// manyLinks is the number of connections up to which gossip goes over all of
// them. The protocol draws about 2*log2(N); in a sparse mesh that is nearly all,
// and those left out would have to wait for the next periodic gossip.
const manyLinks = 32

// neighbours draws the connections to gossip over, leaving out except.
func (m *Mesh) neighbours(now time.Time, except *link) []*link {
	if m.cfg.Leaf || len(m.links) <= manyLinks {
		return slices.DeleteFunc(slices.Clone(m.links), func(l *link) bool { return l == except })
	}
	var skip *peer
	if except != nil {
		skip = except.peer
	}
	return linksTo(m.route(now).random(m.cfg.Rand, skip))
}

// relays returns the connections to pass a received broadcast of origin on over.
// One of our own that comes back goes no further.
func (m *Mesh) relays(now time.Time, origin wire.Name) []*link {
	if m.cfg.Leaf || origin == m.table.self.name {
		return nil
	}
	return linksTo(m.route(now).broadcast(origin))
}

func linksTo(peers []*peer) []*link {
	links := make([]*link, 0, len(peers))
	for _, p := range peers {
		if p.link != nil {
			links = append(links, p.link)
		}
	}
	return links
}
