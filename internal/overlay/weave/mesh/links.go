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

// Register adds a connection to the mesh. On an error the caller closes it and, if it dialled, calls Failed. Another
// connection to the same peer may be closed in its favour.
func (m *Mesh) Register(now time.Time, h Hello) (LinkID, error) {
	l, err := m.register(now, h)
	if h.Outbound {
		m.dialSucceeded(h, l)
	}
	if err != nil {
		return 0, err
	}
	m.queueInitial(now, l)
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
	// A placeholder has UID 0, so it counts as restarted.
	l.sendTopology = l.sendTopology || p == nil || p.uid != h.Remote.UID || !m.route(now).isRouted(p)
	if p = m.table.peer(h.Remote.Name); p == nil {
		return nil, ErrLimit
	}
	if p.version == 0 {
		p.nick, p.uid, p.shortID, p.hasShortID = h.Remote.NickName, h.Remote.UID, h.Remote.ShortID, h.Remote.HasShortID
		m.table.markChanged(p)
	}
	m.nextID++
	l.id, l.peer, p.link = m.nextID, p, l
	m.links = append(m.links, l)
	m.routesDue = now
	m.updateEdges(now)
	sooner(&m.planDue, now)
	return l, nil
}

// replace decides which of two connections to one peer survives. Both ends see the same uid, so they agree.
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
	// Frames sent over the old connection may be lost.
	l.sendTopology = true
	m.drop(now, p.link, ErrReplaced)
	return nil
}

// queueInitial queues what a new neighbour is sent first.
func (m *Mesh) queueInitial(now time.Time, l *link) {
	if m.cfg.Leaf {
		for key := range m.own {
			l.out.addKey(key)
		}
	} else {
		// The protocol sends the state only together with the topology. But the state is small, and a new connection
		// often follows a disturbance.
		l.out.stateAll = true
		l.fullSentAt = now
		l.out.topologyAll = l.sendTopology
	}
	m.markReady(l)
}

// Close removes a connection that has ended by itself. It does nothing if the Mesh has removed it already.
func (m *Mesh) Close(now time.Time, id LinkID) {
	if l := m.link(id); l != nil {
		m.remove(now, l)
	}
}

// drop removes a connection and makes the caller close it.
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
	m.updateEdges(now)
	m.linkClosed(now, l)
	sooner(&m.planDue, now)
}

// updateEdges updates the connections in our record: those to peers that claim any themselves. A leaf claims none.
func (m *Mesh) updateEdges(now time.Time) {
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
	m.table.bumpVersion()
	setIfZero(&m.updateDue, now.Add(updateDelay))
}

// markReady makes the caller fetch frames of l.
func (m *Mesh) markReady(l *link) {
	if !l.out.notified && !l.out.empty() {
		l.out.notified = true
		m.effects.Ready = append(m.effects.Ready, l.id)
	}
}

// route returns the routes, recomputed if a change of the topology is due.
func (m *Mesh) route(now time.Time) *routes {
	if m.routes == nil || !m.routesDue.IsZero() && !now.Before(m.routesDue) {
		m.routes, m.routesDue = newRoutes(m.table), time.Time{}
		m.stats.Routes++
	}
	return m.routes
}

// manyLinks is the number of connections up to which gossip uses all of them. The protocol picks about 2*log2(N); in
// a sparse mesh that is nearly all, and the others would have to wait for the next periodic gossip.
const manyLinks = 32

// neighbours picks the connections to gossip over, except the given one.
func (m *Mesh) neighbours(now time.Time, except *link) []*link {
	if m.cfg.Leaf || len(m.links) <= manyLinks {
		return slices.DeleteFunc(slices.Clone(m.links), func(l *link) bool { return l == except })
	}
	var skip *peer
	if except != nil {
		skip = except.peer
	}
	return linksTo(m.route(now).pickNeighbours(m.cfg.Rand, skip))
}

// relays returns the connections over which to relay a broadcast of origin. Our own is not relayed when it comes
// back.
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
