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

// ring returns the peers that self should be connected to, out of all names in order: its two successors, and the
// first peer past each point half, an eighth, a thirty-second of the ring away. Names are hashes, so they are evenly
// distributed, and a peer that comes or goes changes the choice of few others.
func ring(self wire.Name, names []wire.Name) []wire.Name {
	at, _ := slices.BinarySearchFunc(names, self, wire.Name.Compare)
	if len(names) <= fullMesh {
		return slices.DeleteFunc(slices.Clone(names), func(n wire.Name) bool { return n == self })
	}
	next := names[(at+1)%len(names)]
	chosen := []wire.Name{next, names[(at+2)%len(names)]}
	for step := 0; step < 128; step += 2 {
		point := pointAhead(self, step)
		i, _ := slices.BinarySearchFunc(names, point, wire.Name.Compare)
		n := names[i%len(names)]
		if n == next || n == self {
			break // every closer point leads there as well
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen
}

// pointAhead returns the point 2^(127-step) past n.
func pointAhead(n wire.Name, step int) wire.Name {
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

// topologyChanged schedules choosing peers for when the topology has settled: a choice in the middle of a start makes
// connections that are not needed later.
func (m *Mesh) topologyChanged(now time.Time) {
	m.lastChange = now
	setIfZero(&m.firstChange, now)
	sooner(&m.planDue, m.ringDue())
}

func (m *Mesh) ringDue() time.Time {
	if m.firstChange.IsZero() {
		return time.Time{}
	}
	return minTime(m.lastChange.Add(replanDelay), m.firstChange.Add(maxReplanDelay))
}

// wantedPeers returns targets for the peers of the ring without a connection: for each peer the address to try next.
func (m *Mesh) wantedPeers(now time.Time) []*target {
	if due := m.ringDue(); now.Before(due) {
		sooner(&m.planDue, due)
		return nil
	}
	m.firstChange = time.Time{}
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
		if len(candidates) == 0 || slices.ContainsFunc(candidates, func(t *target) bool { return t.dialing }) {
			continue
		}
		wanted = append(wanted, slices.MinFunc(candidates, func(a, b *target) int { return a.due.Compare(b.due) }))
	}
	return wanted
}

// addressOf returns the target for dialling the far end of a claimed connection: the address that its owner dialled,
// or its source address with our own port, because all peers of a cluster listen on the same.
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
	if t.neverDial || t.named && t.name != e.to.name {
		return nil
	}
	return t
}

// trim closes one of our connections that neither the ring nor a seed needs, if there are many more than needed. The
// ring shifts as peers come and go; without this its former choices would add up to a full mesh.
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
		if m.discovered(l.target) && now.Sub(l.since) > minTrimAge && !slices.Contains(needed, l.peer.name) {
			surplus = append(surplus, l)
		}
	}
	if outbound > len(needed)+spareOutbound && len(surplus) > 0 {
		m.drop(now, surplus[0], ErrSurplus)
	}
}

// refreshDue returns when a leaf must open its oldest connection again.
func (m *Mesh) refreshDue() time.Time {
	if !m.cfg.Leaf || m.cfg.Refresh <= 0 || len(m.links) == 0 {
		return time.Time{}
	}
	return m.links[0].since.Add(m.cfg.Refresh)
}

// refresh closes the oldest connection, which is dialled again at once. Opening the new one first would leave it to
// the connections' random numbers which of the two survives.
func (m *Mesh) refresh(now time.Time) {
	l := m.links[0]
	m.drop(now, l, ErrRefresh)
	if t := m.targets[l.target]; t != nil {
		t.due, t.interval = now, minRetry
	}
}
