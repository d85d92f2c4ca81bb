package kopsmemberlist

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

// forgetAfter is how long one that left or fell silent is joined again.
const forgetAfter = 6 * time.Hour

// member is a member as upstream tells of it.
type member struct {
	node  hashicorp.Node // a copy
	addr  netip.AddrPort
	gone  bool
	since time.Time // of gone
	told  uint64    // the edition of ours that it was last sent
}

// events is what upstream tells about membership. Upstream's own list of members
// is not used: reading its nodes races with upstream's updates of them.
type events struct{ n *Node }

var _ hashicorp.EventDelegate = events{}

func (e events) NotifyJoin(m *hashicorp.Node)   { e.n.noteMember(m, false) }
func (e events) NotifyLeave(m *hashicorp.Node)  { e.n.noteMember(m, true) }
func (e events) NotifyUpdate(m *hashicorp.Node) { e.n.noteMember(m, false) }

// noteMember keeps what upstream says of a member.
func (n *Node) noteMember(node *hashicorp.Node, gone bool) {
	ip, _ := netip.AddrFromSlice(node.Addr)
	m := member{node: *node, addr: netip.AddrPortFrom(ip.Unmap(), node.Port), gone: gone, since: time.Now()}
	m.node.Addr, m.node.Meta = slices.Clone(node.Addr), slices.Clone(node.Meta)

	n.mu.Lock()
	if before, known := n.members[node.Name]; known && !before.gone {
		m.told = before.told
	}
	n.members[node.Name] = m
	n.forgetFormerLives(m.addr)
	others := len(n.othersLocked())
	n.alive.Store(int32(others) + 1)
	n.wakeQuiet()
	signal(n.kick)
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

// forgetFormerLives forgets who is gone from an address at which somebody is
// alive: a member that starts anew has a new name at its old address. n is locked.
func (n *Node) forgetFormerLives(addr netip.AddrPort) {
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

// others returns the members alive but us, in the order of their names.
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

// missing returns whom to join: who is gone, and seeds that are not members. Who
// is gone for too long is forgotten.
func (n *Node) missing(seeds []netip.AddrPort, now time.Time) []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	present := make(map[netip.AddrPort]bool)
	for name, m := range n.members {
		switch {
		case !m.gone:
			present[m.addr] = true
		case now.Sub(m.since) > forgetAfter:
			delete(n.members, name)
		}
	}
	// What leads back to us is us, whatever address it is.
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
