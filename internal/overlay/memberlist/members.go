package memberlist

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	hashicorp "github.com/hashicorp/memberlist"
)

// State is how the failure detector sees a member.
type State uint8

// A member that is Gone has left or was declared dead; upstream does not tell
// which. Suspects count as Alive: they still may refute.
const (
	Alive State = iota
	Gone
)

// String returns the state as it stands in status output.
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

// MarshalText lets states stand in JSON by name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Member is a node of the overlay as this node sees it.
type Member struct {
	Name  string         `json:"name"`
	Addr  netip.AddrPort `json:"addr"`
	State State          `json:"state"`
	Since time.Time      `json:"since"` // of State
}

// Members returns the nodes of the overlay by name, this one included once Run
// has begun. One that is gone is listed for as long as a record of it can live.
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

// others returns the members alive other than this node.
func (o *Overlay) others() []Member {
	return slices.DeleteFunc(o.Members(), func(m Member) bool { return m.State != Alive || m.Name == o.cfg.Node })
}

// events is what upstream tells about membership. Upstream's own list of members
// is not used: reading its nodes races with upstream's updates of them, while
// these calls hold upstream's lock.
type events struct{ o *Overlay }

var _ hashicorp.EventDelegate = events{}

func (e events) NotifyJoin(n *hashicorp.Node)   { e.o.note(n, Alive) }
func (e events) NotifyLeave(n *hashicorp.Node)  { e.o.note(n, Gone) }
func (e events) NotifyUpdate(n *hashicorp.Node) { e.o.note(n, Alive) }

// note keeps what upstream says of n.
func (o *Overlay) note(n *hashicorp.Node, state State) {
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
