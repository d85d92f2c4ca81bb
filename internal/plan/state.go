package plan

import (
	"math/bits"
	"strings"
)

// Class is how a worker was born, as far as its way to the API goes.
type Class uint8

// The classes of workers.
const (
	// Gossip: reads the state store, finds seeds by cloud tag, and takes the
	// names from the overlay's records.
	Gossip Class = iota
	// Unresolved: asks for its configuration under a name that nothing resolves.
	// It is what kOps makes when it finds no address; no such node ever joins.
	Unresolved
	// Hybrid: born with the load balancer's addresses while the control plane
	// still gossips.
	Hybrid
	// None: born with the load balancer's addresses; kOps tells it apart from
	// Hybrid by its configuration's hash and replaces it.
	None
	// List: born with the control plane's addresses, which muster-agent keeps
	// current behind its own balancer.
	List

	classCount
)

var classNames = [classCount]string{"gossip", "unresolved", "hybrid", "none", "list"}

// String returns the class's name.
func (c Class) String() string { return classNames[c] }

// one is the class's name with its article, as in "an unresolved".
func (c Class) one() string {
	if c == Unresolved {
		return "an " + c.String()
	}
	return "a " + c.String()
}

// Classes is a set of classes.
type Classes uint8

// Set returns the set of the given classes.
func Set(classes ...Class) Classes {
	var s Classes
	for _, c := range classes {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in the set.
func (s Classes) Has(c Class) bool { return s&(1<<c) != 0 }

// Len counts the classes.
func (s Classes) Len() int { return bits.OnesCount8(uint8(s)) }

// Each lists the classes in their order.
func (s Classes) Each(yield func(Class) bool) {
	for c := range classCount {
		if s.Has(c) && !yield(c) {
			return
		}
	}
}

// String returns the names of the classes, joined by +.
func (s Classes) String() string {
	var names []string
	for c := range s.Each {
		names = append(names, c.String())
	}
	return strings.Join(names, "+")
}

// State is a cluster at one moment, folded: of workers it says which classes
// there are, of control-plane nodes how many are alike. Two clusters with the
// same State have the same future. It is comparable, and [State.key] packs it
// into a number without loss.
type State struct {
	// What the spec asks for; nothing follows before an update.
	None   bool // DNS type None
	Agent  bool // the workers' groups carry muster-agent
	Edited bool // somebody else changed the spec since the plan was made

	// The control plane.
	Members Members // its nodes that are up
	Away    uint8   // its nodes that are down and will be replaced
	Quiet   bool    // a new one would not gossip
	Held    bool    // a new one takes over the address of the one before
	Serves  bool    // each serves endpoints to muster-agent

	// The workers, all groups together.
	Templates Classes // what the next worker of some group is born as
	Live      Classes // what there is

	// The load balancers. The classic one never serves nodes.
	Classic bool // what it serves is people
	Emptied bool // kOps took the classic one's targets, and gives them back no more
	Network bool
	API     bool // the API answers through the network load balancer
	Config  bool // the configuration service answers through it
	Moved   bool // one of its addresses is not what nodes were born with
	Proven  bool // a worker has reached every new endpoint

	// What the workers' cloud role allows: to list instances and to read the
	// state store, which only Gossip needs.
	Lookup       bool
	PolicyBridge bool // the same, by a policy of ours that the plan takes away again

	// Who publishes the API's names in the overlay.
	Controller bool // dns-controller is deployed
	Pruning    bool // kOps is about to delete it
	Bridge     bool // a leaf of ours publishes the load balancer

	// What stays behind.
	Ports bool // gossip ports are open between nodes
	Old   bool // template versions of before, with what they carry, still exist
}

// Members counts control-plane nodes by whether they gossip and by whether
// their address is what the overlay's records say.
type Members struct {
	GossipKnown, GossipStale, QuietKnown, QuietStale uint8
}

// maxMembers bounds each counter, so that a state packs into a number.
const maxMembers = 15

func (m Members) gossiping() uint8 { return m.GossipKnown + m.GossipStale }
func (m Members) quiet() uint8     { return m.QuietKnown + m.QuietStale }
func (m Members) known() uint8     { return m.GossipKnown + m.QuietKnown }
func (m Members) up() uint8        { return m.gossiping() + m.quiet() }

// each calls visit with every way to take one node out.
func (m Members) each(visit func(Members)) {
	for _, n := range []*uint8{&m.GossipKnown, &m.GossipStale, &m.QuietKnown, &m.QuietStale} {
		if *n > 0 {
			*n--
			visit(m)
			*n++
		}
	}
}

func (m Members) with(gossips, known bool) Members {
	switch {
	case gossips && known:
		m.GossipKnown++
	case gossips:
		m.GossipStale++
	case known:
		m.QuietKnown++
	default:
		m.QuietStale++
	}
	return m
}

// settled returns the state after what follows by itself at once: a working
// publisher corrects the records, and held addresses never make them stale.
func (s State) settled() State {
	if s.publishing() || s.Held {
		m := &s.Members
		m.GossipKnown, m.GossipStale = m.gossiping(), 0
		m.QuietKnown, m.QuietStale = m.quiet(), 0
	}
	return s
}

// returned is the state with a control-plane node of the current template back
// for one that was away.
func (s State) returned() State {
	s.Away--
	s.Members = s.Members.with(!s.Quiet, s.Held)
	return s.settled()
}

// publishing reports whether dns-controller does its work. It talks to the
// overlay's peer on its own node and nobody chooses that node: one control-plane
// node without a peer is enough to doubt it.
func (s State) publishing() bool {
	return s.Controller && s.Members.gossiping() > 0 && s.Members.quiet() == 0
}

// readers reports whether a worker takes names from the overlay, or would.
func (s State) readers() bool { return (s.Live | s.Templates).Has(Gossip) }

// key packs the state into a number, one number a state.
func (s State) key() uint64 {
	k := uint64(s.Templates) | uint64(s.Live)<<8
	k = k<<4 | uint64(s.Members.GossipKnown)
	k = k<<4 | uint64(s.Members.GossipStale)
	k = k<<4 | uint64(s.Members.QuietKnown)
	k = k<<4 | uint64(s.Members.QuietStale)
	k = k<<2 | uint64(s.Away)
	for _, b := range s.flags() {
		k <<= 1
		if *b {
			k |= 1
		}
	}
	return k
}

// stateOf is the inverse of key.
func stateOf(k uint64) State {
	var s State
	flags := s.flags()
	for i := len(flags) - 1; i >= 0; i-- {
		*flags[i] = k&1 != 0
		k >>= 1
	}
	s.Away = uint8(k & 3)
	k >>= 2
	s.Members = Members{uint8(k >> 12 & 15), uint8(k >> 8 & 15), uint8(k >> 4 & 15), uint8(k & 15)}
	k >>= 16
	s.Templates, s.Live = Classes(k), Classes(k>>8)
	return s
}

// flags are the yes-or-no parts of a state.
func (s *State) flags() [20]*bool {
	return [...]*bool{
		&s.None, &s.Agent, &s.Edited, &s.Quiet, &s.Held, &s.Serves,
		&s.Classic, &s.Emptied, &s.Network, &s.API, &s.Config, &s.Moved, &s.Proven,
		&s.Lookup, &s.PolicyBridge, &s.Controller, &s.Pruning, &s.Bridge, &s.Ports, &s.Old,
	}
}
