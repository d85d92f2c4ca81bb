package kopsmemberlist

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

// goneTimeout is how long a member that left or failed is joined again.
const goneTimeout = 6 * time.Hour

// member is a member as reported by upstream.
type member struct {
	node        hashicorp.Node // a copy
	addr        netip.AddrPort
	gone        bool
	since       time.Time // of gone
	sentEdition uint64    // the edition of our state last sent to it
}

// events receives membership changes from upstream. Upstream's own list of members is not used, because reading its
// nodes races with its updates.
type events struct{ n *Node }

var _ hashicorp.EventDelegate = events{}

func (e events) NotifyJoin(m *hashicorp.Node)   { e.n.updateMember(m, false) }
func (e events) NotifyLeave(m *hashicorp.Node)  { e.n.updateMember(m, true) }
func (e events) NotifyUpdate(m *hashicorp.Node) { e.n.updateMember(m, false) }

// updateMember records a change of a member.
func (n *Node) updateMember(node *hashicorp.Node, gone bool) {
	ip, _ := netip.AddrFromSlice(node.Addr)
	m := member{node: *node, addr: netip.AddrPortFrom(ip.Unmap(), node.Port), gone: gone, since: time.Now()}
	m.node.Addr, m.node.Meta = slices.Clone(node.Addr), slices.Clone(node.Meta)

	n.mu.Lock()
	if before, known := n.members[node.Name]; known && !before.gone {
		m.sentEdition = before.sentEdition
	}
	n.members[node.Name] = m
	n.dropRestarted(m.addr)
	others := len(n.othersLocked())
	n.alive.Store(int32(others) + 1)
	n.wakeFlushers()
	signal(n.wake)
	n.mu.Unlock()

	if node.Name == n.cfg.NodeName {
		return
	}
	if gone {
		n.log.Info("member gone", "member", node.Name, "addr", m.addr, "others", others)
	} else {
		n.log.Info("member alive", "member", node.Name, "addr", m.addr, "others", others)
	}
}

// dropRestarted drops gone members from an address where another is alive: a restarted member has a new name at its
// old address. The caller holds mu.
func (n *Node) dropRestarted(addr netip.AddrPort) {
	var former []string
	taken := false
	for name, m := range n.members {
		switch {
		case m.addr != addr:
		case m.gone:
			former = append(former, name)
		default:
			taken = true
		}
	}
	for _, name := range former {
		if taken {
			delete(n.members, name)
		}
	}
}

// others returns the alive members other than this one, ordered by name.
func (n *Node) others() []member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.othersLocked()
}

func (n *Node) othersLocked() []member {
	all := make([]member, 0, len(n.members))
	for name, m := range n.members {
		if !m.gone && name != n.cfg.NodeName {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b member) int { return cmp.Compare(a.node.Name, b.node.Name) })
	return all
}

// missing returns the addresses to join: members that are gone, and seeds that are not members. It drops members that
// have been gone for longer than goneTimeout.
func (n *Node) missing(seeds []netip.AddrPort, now time.Time) []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	present := make(map[netip.AddrPort]bool)
	for name, m := range n.members {
		switch {
		case !m.gone:
			present[m.addr] = true
		case now.Sub(m.since) > goneTimeout:
			delete(n.members, name)
		}
	}
	// Never join ourselves, whatever the address.
	present[n.addr] = true
	var out []netip.AddrPort
	add := func(addr netip.AddrPort) {
		if !present[addr] {
			present[addr] = true
			out = append(out, addr)
		}
	}
	for _, m := range n.members {
		add(m.addr)
	}
	for _, seed := range seeds {
		if seed.Port() == 0 {
			seed = netip.AddrPortFrom(seed.Addr(), n.addr.Port())
		}
		add(netip.AddrPortFrom(seed.Addr().Unmap(), seed.Port()))
	}
	return out
}
