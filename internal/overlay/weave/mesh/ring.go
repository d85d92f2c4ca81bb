package mesh

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// fullMesh is the number of peers up to which each dials every other.
const fullMesh = 12

// ring returns whom self is to be connected with, out of all names in order:
// its two successors, and the first peer past each point that lies half, an
// eighth, a thirty-second of the ring away. Names are hashes, hence evenly
// spread, and a peer that comes or goes changes the choice of few others.
func ring(self wire.Name, names []wire.Name) []wire.Name {
	at, _ := slices.BinarySearchFunc(names, self, wire.Name.Compare)
	if len(names) <= fullMesh {
		return slices.DeleteFunc(slices.Clone(names), func(n wire.Name) bool { return n == self })
	}
	next := names[(at+1)%len(names)]
	chosen := []wire.Name{next, names[(at+2)%len(names)]}
	for step := 0; step < 128; step += 2 {
		point := ahead(self, step)
		i, _ := slices.BinarySearchFunc(names, point, wire.Name.Compare)
		n := names[i%len(names)]
		if n == next || n == self {
			break // every closer point leads there too
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen
}

// ahead returns the point 2^(127-step) past n.
func ahead(n wire.Name, step int) wire.Name {
	hi, lo := binary.BigEndian.Uint64(n[:8]), binary.BigEndian.Uint64(n[8:])
	var carry uint64
	if step < 64 {
		hi += 1 << (63 - step)
	} else {
		lo, carry = bits.Add64(lo, 1<<(127-step), 0)
		hi += carry
	}
	binary.BigEndian.PutUint64(n[:8], hi)
	binary.BigEndian.PutUint64(n[8:], lo)
	return n
}

// changedTopology has the choice of peers looked at when the topology has come
// to rest: what looks right halfway through a start makes connections that
// nobody needs afterwards.
func (m *Mesh) changedTopology(now time.Time) {
	m.newest = now
	ifUnset(&m.news, now)
	sooner(&m.planDue, m.ringDue())
}

func (m *Mesh) ringDue() time.Time {
	if m.news.IsZero() {
		return time.Time{}
	}
	return minTime(m.newest.Add(replanAfter), m.news.Add(replanAtLast))
}

// wantedPeers returns targets for the peers of the ring that we are not
// connected with: for each the address whose turn it is.
func (m *Mesh) wantedPeers(now time.Time) []*target {
	if due := m.ringDue(); now.Before(due) {
		sooner(&m.planDue, due)
		return nil
	}
	m.news = time.Time{}
	missing := make(map[*peer][]*target)
	order := ring(m.table.self.name, m.table.participants())
	for _, n := range order {
		if p := m.table.peers[n]; p.link == nil {
			missing[p] = nil
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, n := range m.table.participants() {
		for _, e := range m.table.peers[n].edges {
			if known, ok := missing[e.to]; ok && len(known) < maxAddresses {
				if t := m.addressOf(e); t != nil && !slices.Contains(known, t) {
					missing[e.to] = append(known, t)
				}
			}
		}
	}
	var wanted []*target
	for _, n := range order {
		candidates := missing[m.table.peers[n]]
		if len(candidates) == 0 || slices.ContainsFunc(candidates, func(t *target) bool { return t.busy }) {
			continue
		}
		wanted = append(wanted, slices.MinFunc(candidates, func(a, b *target) int { return a.due.Compare(b.due) }))
	}
	return wanted
}

// addressOf returns the target at which the far end of a claimed connection may
// be dialed: where its owner dialed it, or where it came from with our own port,
// since all peers of a cluster listen on the same.
func (m *Mesh) addressOf(e edge) *target {
	addr, err := netip.ParseAddrPort(e.addr)
	if err != nil {
		return nil
	}
	if !e.outbound {
		addr = netip.AddrPortFrom(addr.Addr(), m.listen.Port())
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if addr == m.listen || addr.Port() == 0 || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
		return nil
	}
	t := m.target(addr)
	if t.never || t.named && t.name != e.to.name {
		return nil
	}
	return t
}

// trim closes a connection of ours that neither the ring nor a seed needs, if
// there are many more than needed. The ring shifts as peers come and go; without
// this its former choices would add up to a full mesh.
func (m *Mesh) trim(now time.Time) {
	if m.cfg.Leaf {
		return
	}
	needed := ring(m.table.self.name, m.table.participants())
	var surplus []*link
	outbound := 0
	for _, l := range m.links {
		if !l.outbound {
			continue
		}
		outbound++
		if m.discovered(l.target) && now.Sub(l.since) > trimAge && !slices.Contains(needed, l.peer.name) {
			surplus = append(surplus, l)
		}
	}
	if outbound > len(needed)+spareOutbound && len(surplus) > 0 {
		m.drop(now, surplus[0], ErrSurplus)
	}
}

// refreshDue returns when a leaf is to make its oldest connection again.
func (m *Mesh) refreshDue() time.Time {
	if !m.cfg.Leaf || m.cfg.Refresh <= 0 || len(m.links) == 0 {
		return time.Time{}
	}
	return m.links[0].since.Add(m.cfg.Refresh)
}

// refresh closes the oldest connection, which is dialed again at once. Doing it
// the other way round would leave it to the connections' random numbers which
// of the two survives.
func (m *Mesh) refresh(now time.Time) {
	l := m.links[0]
	m.drop(now, l, ErrRefresh)
	if t := m.targets[l.target]; t != nil {
		t.due, t.interval = now, retryFirst
	}
}
