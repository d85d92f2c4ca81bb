package endpoint

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
)

// Table is everything known about one name. Not safe for concurrent use.
type Table struct {
	node string         // orders equals differently on each node
	self netip.Addr     // tried first where it is a member
	near []netip.Prefix // tried before others of their tier

	said   map[Source][]netip.AddrPort
	health map[netip.AddrPort]Health
	last   []netip.AddrPort // the order last served
}

// NewTable returns an empty table for the node of that name. Where the node
// itself serves the name, self is its address; otherwise the zero Addr.
func NewTable(node string, self netip.Addr) *Table {
	return &Table{
		node:   node,
		self:   self.Unmap(),
		said:   make(map[Source][]netip.AddrPort),
		health: make(map[netip.AddrPort]Health),
	}
}

// Prefer makes endpoints in these networks come before others of their tier, such
// as those in the node's own zone. It orders and excludes nobody.
func (t *Table) Prefer(networks []netip.Prefix) { t.near = slices.Clone(networks) }

// Replace notes what a source says now and reports whether that is news. An
// empty or wholly invalid list is refused with ErrEmpty and what the source
// said before stays.
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
	if slices.Equal(clean, t.said[src]) {
		return false, nil
	}
	t.said[src] = clean
	t.forgetStrangers()
	return true, nil
}

// unmap gives an IPv4 address that came in IPv6 dress its one form, so that it
// compares equal however it was learnt.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Retract forgets what a source said, unless nobody else says anything: then it
// stays and ErrEmpty is returned. It is for sources that were configured away
// or replaced by a better one, not for sources that fell silent.
func (t *Table) Retract(src Source) error {
	if _, ok := t.said[src]; !ok {
		return nil
	}
	if len(t.said) == 1 {
		return fmt.Errorf("retract source %s: %w", src, ErrEmpty)
	}
	delete(t.said, src)
	t.forgetStrangers()
	return nil
}

// forgetStrangers drops the health of addresses that no source names any more,
// so that one that comes back is judged afresh.
func (t *Table) forgetStrangers() {
	for a := range t.health {
		if !t.knows(a) {
			delete(t.health, a)
		}
	}
}

func (t *Table) knows(a netip.AddrPort) bool {
	for _, addrs := range t.said {
		if slices.Contains(addrs, a) {
			return true
		}
	}
	return false
}

// Observe notes the health of an address and reports whether that is news.
// Addresses that no source names are ignored.
func (t *Table) Observe(a netip.AddrPort, h Health) (changed bool) {
	if a = unmap(a); !t.knows(a) || t.health[a] == h {
		return false
	}
	t.health[a] = h
	return true
}

// All returns every known endpoint, healthy or not, in the order of preference.
func (t *Table) All() []Endpoint {
	byAddr := make(map[netip.AddrPort]*Endpoint)
	for src := Overlay; src <= Disk; src++ {
		for _, a := range t.said[src] {
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

// prefer orders by tier, then this node's own address, then what is near, then a
// hash of node and address: every node has an order of its own, so the first server is not the
// same everywhere, and one that comes or goes moves no other.
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
	// FNV changes the low bits most; spread them so that the order of two
	// neighbouring addresses depends on the node as well.
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

// Serving returns what serves now, in order of preference:
//
//   - live servers that are up or unknown, followed by such load balancers;
//   - without any live one, balancers and then memories that are;
//   - without those, whatever is draining, in the same order: it answers;
//   - with everything down, what served last and then everything else, marked
//     [Set.Isolated]: health is ignored, since a wrong verdict on all of them
//     must not cut the node off (k3s#10240).
//
// It fails with ErrEmpty only if no source has ever named an address.
func (t *Table) Serving() (Set, error) {
	all := t.All()
	if len(all) == 0 {
		return Set{}, ErrEmpty
	}
	usable := without(all, func(e Endpoint) bool { return e.Health.Away() })
	var draining []netip.AddrPort
	if leaving := without(all, func(e Endpoint) bool { return e.Health != Draining }); len(usable) == 0 {
		usable = leaving
	} else {
		draining = Set{endpoints: leaving}.Addrs()
	}
	if len(usable) == 0 {
		return Set{endpoints: t.lastFirst(all), isolated: true}, nil
	}
	if usable[0].tier() == tierLive {
		usable = without(usable, func(e Endpoint) bool { return e.tier() == tierMemory })
	}
	s := Set{endpoints: usable, draining: draining}
	t.last = s.Addrs()
	return s, nil
}

func without(all []Endpoint, unwanted func(Endpoint) bool) []Endpoint {
	return slices.DeleteFunc(slices.Clone(all), unwanted)
}

// lastFirst orders all by their place in what served last; newcomers follow in
// their own order.
func (t *Table) lastFirst(all []Endpoint) []Endpoint {
	place := func(e Endpoint) int {
		if i := slices.Index(t.last, e.Addr); i >= 0 {
			return i
		}
		return len(t.last)
	}
	slices.SortStableFunc(all, func(a, b Endpoint) int { return cmp.Compare(place(a), place(b)) })
	return all
}
