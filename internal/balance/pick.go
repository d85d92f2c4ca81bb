package balance

import (
	"cmp"
	"net/netip"
	"slices"
)

// candidate is one server of the set as order sees it.
type candidate struct {
	addr     netip.AddrPort
	balancer bool // a load balancer's address, which stands for the whole control plane
	near     bool // in a network that this node prefers
	load     int  // connections open or being opened
	suspect  bool // a dial failed moments ago
}

// order returns the addresses in the order to dial them, given the candidates
// in the order of the set.
//
// The set's order is its preference, but only between groups: neighbours that
// are all servers, or all load balancers, and equally near, share the load. So a
// load balancer is dialled after every server that the set puts before it,
// however busy they are, and new connections come back to the servers as soon
// as there is one (k3s#11319). Equals with the same load keep their order,
// which differs from node to node.
//
// Suspects come after everybody else but are never left out (k3s#10240).
func order(candidates []candidate) []netip.AddrPort {
	type ranked struct {
		candidate
		group int
	}
	ranks := make([]ranked, len(candidates))
	for i, c := range candidates {
		ranks[i] = ranked{candidate: c}
		if i > 0 {
			ranks[i].group = ranks[i-1].group
			if !c.neighbours(candidates[i-1]) {
				ranks[i].group++
			}
		}
	}
	slices.SortStableFunc(ranks, func(a, b ranked) int {
		return cmp.Or(
			compareBool(a.suspect, b.suspect),
			cmp.Compare(a.group, b.group),
			cmp.Compare(a.load, b.load),
		)
	})
	addrs := make([]netip.AddrPort, len(ranks))
	for i, r := range ranks {
		addrs[i] = r.addr
	}
	return addrs
}

// neighbours reports whether two that follow each other share the load.
func (c candidate) neighbours(o candidate) bool { return c.balancer == o.balancer && c.near == o.near }

// leader returns the index of the candidate that order would put first. candidates must
// not be empty.
func leader(candidates []candidate) int {
	best, group, bestGroup := 0, 0, 0
	for i, c := range candidates[1:] {
		if !c.neighbours(candidates[i]) {
			group++
		}
		b := candidates[best]
		if !c.suspect && b.suspect || c.suspect == b.suspect && group == bestGroup && c.load < b.load {
			best, bestGroup = i+1, group
		}
	}
	return best
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
