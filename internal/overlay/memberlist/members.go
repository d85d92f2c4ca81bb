package memberlist

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

// State is a member's state according to the failure detector.
type State uint8

// A Gone member has left or was declared dead; upstream does not tell which. Suspects are Alive: they may still
// refute.
const (
	Alive State = iota
	Gone
)

// String returns the state as in status output.
func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Gone:
		return "gone"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// MarshalText encodes the state's name, for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Member is a node of the overlay as seen by this node.
type Member struct {
	Name  string         `json:"name"`
	Addr  netip.AddrPort `json:"addr"`
	State State          `json:"state"`
	Since time.Time      `json:"since"` // of State
}

// Members returns the nodes of the overlay by name, including this one once Run has begun. Gone nodes are listed for
// as long as a record of theirs can live.
func (o *Overlay) Members() []Member {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]Member, 0, len(o.members))
	for _, m := range o.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// others returns the alive members other than this node.
func (o *Overlay) others() []Member {
	return slices.DeleteFunc(o.Members(), func(m Member) bool { return m.State != Alive || m.Name == o.cfg.Node })
}

// events receives membership changes from upstream. Upstream's own list of members is not used: reading its nodes
// races with its updates, while these calls hold its lock.
type events struct{ o *Overlay }

var _ hashicorp.EventDelegate = events{}

func (e events) NotifyJoin(n *hashicorp.Node)   { e.o.updateMember(n, Alive) }
func (e events) NotifyLeave(n *hashicorp.Node)  { e.o.updateMember(n, Gone) }
func (e events) NotifyUpdate(n *hashicorp.Node) { e.o.updateMember(n, Alive) }

// updateMember records a change of n.
func (o *Overlay) updateMember(n *hashicorp.Node, state State) {
	ip, _ := netip.AddrFromSlice(n.Addr)
	m := Member{Name: n.Name, Addr: netip.AddrPortFrom(ip.Unmap(), n.Port), State: state, Since: time.Now()}

	o.mu.Lock()
	o.members[m.Name] = m
	var alive int32
	for _, m := range o.members {
		if m.State == Alive {
			alive++
		}
	}
	o.alive.Store(alive)
	o.mu.Unlock()

	if m.Name != o.cfg.Node {
		o.log.Info("member "+state.String(), "member", m.Name, "addr", m.Addr, "alive", alive)
	}
}
