package endpoint

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
)

// Table holds everything known about the endpoints of one name. Not safe for concurrent use.
type Table struct {
	node string         // seeds the order of equal endpoints, so that it differs between nodes
	self netip.Addr     // first in its tier
	near []netip.Prefix // before others of their tier

	bySource map[Source][]netip.AddrPort
	health   map[netip.AddrPort]Health
	last     []netip.AddrPort // the order last served
}

// NewTable returns an empty table for the named node. If the node itself serves the endpoint's name, self is its
// address; otherwise self is the zero Addr.
func NewTable(node string, self netip.Addr) *Table {
	return &Table{
		node:     node,
		self:     self.Unmap(),
		bySource: make(map[Source][]netip.AddrPort),
		health:   make(map[netip.AddrPort]Health),
	}
}

// Prefer puts endpoints in networks, such as those of the node's own zone, before others of their tier. It excludes
// none.
func (t *Table) Prefer(networks []netip.Prefix) { t.near = slices.Clone(networks) }

// Replace sets the addresses of a source and reports whether they changed. A list without a valid address is refused
// with ErrEmpty, and the source's previous addresses stay.
func (t *Table) Replace(src Source, addrs []netip.AddrPort) (changed bool, err error) {
	var clean []netip.AddrPort
	for _, a := range addrs {
		if a = unmap(a); a.IsValid() && a.Port() != 0 {
			clean = append(clean, a)
		}
	}
	if len(clean) == 0 {
		return false, fmt.Errorf("source %s: %w", src, ErrEmpty)
	}
	slices.SortFunc(clean, netip.AddrPort.Compare)
	clean = slices.Compact(clean)
	if slices.Equal(clean, t.bySource[src]) {
		return false, nil
	}
	t.bySource[src] = clean
	t.pruneHealth()
	return true, nil
}

// unmap turns an IPv4-mapped IPv6 address into IPv4, so that it compares equal wherever it was learned.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Retract removes the addresses of a source, unless no other source has any: then they stay and ErrEmpty is returned.
// It is for sources that were removed from the configuration or replaced by a better one, not for sources that
// stopped answering.
func (t *Table) Retract(src Source) error {
	if _, ok := t.bySource[src]; !ok {
		return nil
	}
	if len(t.bySource) == 1 {
		return fmt.Errorf("retract source %s: %w", src, ErrEmpty)
	}
	delete(t.bySource, src)
	t.pruneHealth()
	return nil
}

// pruneHealth drops the health of addresses that no source has any more, so that one that returns starts as Unknown.
func (t *Table) pruneHealth() {
	for a := range t.health {
		if !t.isKnown(a) {
			delete(t.health, a)
		}
	}
}

func (t *Table) isKnown(a netip.AddrPort) bool {
	for _, addrs := range t.bySource {
		if slices.Contains(addrs, a) {
			return true
		}
	}
	return false
}

// Observe sets the health of an address and reports whether it changed. Addresses that no source has are ignored.
func (t *Table) Observe(a netip.AddrPort, h Health) (changed bool) {
	if a = unmap(a); !t.isKnown(a) || t.health[a] == h {
		return false
	}
	t.health[a] = h
	return true
}

// All returns every known endpoint, healthy or not, in the order of preference.
func (t *Table) All() []Endpoint {
	byAddr := make(map[netip.AddrPort]*Endpoint)
	for src := Overlay; src <= Disk; src++ {
		for _, a := range t.bySource[src] {
			e := byAddr[a]
			if e == nil {
				e = &Endpoint{Addr: a, Health: t.health[a], Near: t.isNear(a)}
				byAddr[a] = e
			}
			e.Sources = append(e.Sources, src)
		}
	}
	all := make([]Endpoint, 0, len(byAddr))
	for _, e := range byAddr {
		all = append(all, *e)
	}
	slices.SortFunc(all, t.prefer)
	return all
}

func (t *Table) isNear(a netip.AddrPort) bool {
	return slices.ContainsFunc(t.near, func(p netip.Prefix) bool { return p.Contains(a.Addr()) })
}

// prefer orders by tier, then this node's own address, then near ones, then a hash of node and address: every node
// has its own order, so that the first server is not the same everywhere, and a server that comes or goes does not
// move the others.
func (t *Table) prefer(a, b Endpoint) int {
	return cmp.Or(
		cmp.Compare(a.tier(), b.tier()),
		cmp.Compare(t.distance(a), t.distance(b)),
		cmp.Compare(t.rank(a.Addr), t.rank(b.Addr)),
		a.Addr.Compare(b.Addr),
	)
}

// distance is 0 for the node itself, 1 for what is near and 2 for all others.
func (t *Table) distance(e Endpoint) int {
	switch {
	case t.self.IsValid() && e.Addr.Addr() == t.self:
		return 0
	case e.Near:
		return 1
	}
	return 2
}

func (t *Table) rank(a netip.AddrPort) uint64 {
	h := fnv.New64a()
	h.Write([]byte(t.node))
	h.Write([]byte{0})
	b := a.Addr().As16()
	h.Write(b[:])
	// FNV changes the low bits most. Spread them, so that the order of two neighbouring addresses depends on the node
	// as well.
	return mix(h.Sum64())
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// Serving returns the endpoints to use now, in order of preference:
//
//   - live servers that are up or unknown, then load balancers that are;
//   - if there is no such live server, load balancers and then remembered servers that are;
//   - if there is none of these, the draining ones in the same order: they still answer;
//   - if all are down, those of the last set and then all others, marked [Set.Isolated]: health is ignored, because a
//     wrong verdict on all of them must not cut the node off (k3s#10240).
//
// It fails with ErrEmpty only if no source has ever had an address.
func (t *Table) Serving() (Set, error) {
	all := t.All()
	if len(all) == 0 {
		return Set{}, ErrEmpty
	}
	usable := without(all, func(e Endpoint) bool { return e.Health.Away() })
	var draining []netip.AddrPort
	if drainingOnly := without(all, func(e Endpoint) bool { return e.Health != Draining }); len(usable) == 0 {
		usable = drainingOnly
	} else {
		draining = Set{endpoints: drainingOnly}.Addrs()
	}
	if len(usable) == 0 {
		return Set{endpoints: t.sortByLast(all), isolated: true}, nil
	}
	if usable[0].tier() == tierLive {
		usable = without(usable, func(e Endpoint) bool { return e.tier() == tierRemembered })
	}
	s := Set{endpoints: usable, draining: draining}
	t.last = s.Addrs()
	return s, nil
}

func without(all []Endpoint, unwanted func(Endpoint) bool) []Endpoint {
	return slices.DeleteFunc(slices.Clone(all), unwanted)
}

// sortByLast orders all by their position in the set last served; new endpoints follow in their own order.
func (t *Table) sortByLast(all []Endpoint) []Endpoint {
	position := func(e Endpoint) int {
		if i := slices.Index(t.last, e.Addr); i >= 0 {
			return i
		}
		return len(t.last)
	}
	slices.SortStableFunc(all, func(a, b Endpoint) int { return cmp.Compare(position(a), position(b)) })
	return all
}
