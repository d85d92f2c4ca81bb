package plan

import (
	"math/bits"
	"strings"
)

// Class is how a worker finds the API, as fixed by its boot configuration.
type Class uint8

// The classes of workers.
const (
	// Gossip: reads the state store, finds seeds by cloud tag, and takes the
	// names from the overlay's records.
	Gossip Class = iota
	// Unresolved: requests its configuration from a name that nothing resolves. kOps
	// renders this when it finds no address; no such node ever joins.
	Unresolved
	// Hybrid: boots with the load balancer's addresses while the control plane
	// still gossips.
	Hybrid
	// None: boots with the load balancer's addresses; kOps distinguishes it from
	// Hybrid by the hash of its configuration, and replaces it.
	None
	// List: boots with the control plane's addresses, which muster-agent keeps
	// current behind its local balancer.
	List

	classCount
)

var classNames = [classCount]string{"gossip", "unresolved", "hybrid", "none", "list"}

// String returns the class's name.
func (c Class) String() string { return classNames[c] }

// one returns the class's name with its indefinite article.
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

// Len returns the number of classes.
func (s Classes) Len() int { return bits.OnesCount8(uint8(s)) }

// Each iterates over the classes in order.
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

// State is an abstraction of a cluster at one moment: which classes of worker there
// are, and how many control-plane nodes of each kind. Two clusters with the same
// State have the same future. It is comparable, and [State.key] packs it into a
// number without loss.
type State struct {
	// What the spec asks for; it takes effect with the next update.
	None   bool // DNS type None
	Agent  bool // the workers' groups install muster-agent
	Edited bool // somebody else changed the spec since the plan was made

	// The control plane.
	Members Members // its nodes that are up
	Away    uint8   // its nodes that are down and will be replaced
	Quiet   bool    // a new one would not gossip
	Held    bool    // a replacement takes over its predecessor's address
	Serves  bool    // every one serves endpoints to muster-agent

	// The workers, all groups together.
	Templates Classes // classes that the groups' templates produce
	Live      Classes // classes of the workers that are up

	// The load balancers. The classic one never serves nodes.
	Classic bool // it serves people
	Emptied bool // kOps has detached the classic one's targets, for good
	Network bool
	API     bool // the API answers through the network load balancer
	Config  bool // the configuration service answers through it
	Moved   bool // an address differs from those in nodes' boot configurations
	Proven  bool // a worker has reached every new endpoint

	// Whether the workers' cloud role may list instances and read the state store,
	// which only Gossip needs.
	Lookup       bool
	PolicyBridge bool // the same, by a temporary policy of the plan

	// What publishes the API's names in the overlay.
	Controller bool // dns-controller is deployed
	Pruning    bool // kOps is about to delete it
	Bridge     bool // our bridge publishes the load balancer

	// What the migration leaves behind.
	Ports bool // gossip ports are open between nodes
	Old   bool // earlier template versions, and the secrets in them, still exist
}

// Members counts control-plane nodes by whether they gossip and whether the
// overlay's records have their current address.
type Members struct {
	GossipKnown, GossipStale, QuietKnown, QuietStale uint8
}

// maxMembers bounds each counter, so that a state packs into a number.
const maxMembers = 15

func (m Members) gossiping() uint8 { return m.GossipKnown + m.GossipStale }
func (m Members) quiet() uint8     { return m.QuietKnown + m.QuietStale }
func (m Members) known() uint8     { return m.GossipKnown + m.QuietKnown }
func (m Members) up() uint8        { return m.gossiping() + m.quiet() }

// each calls visit with every result of removing one node.
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

// settled returns the state once immediate consequences have happened: a working
// publisher corrects the records, and held addresses never make them stale.
func (s State) settled() State {
	if s.publishing() || s.Held {
		m := &s.Members
		m.GossipKnown, m.GossipStale = m.gossiping(), 0
		m.QuietKnown, m.QuietStale = m.quiet(), 0
	}
	return s
}

// returned returns the state after a control-plane node from the current template
// has replaced one that was away.
func (s State) returned() State {
	s.Away--
	s.Members = s.Members.with(!s.Quiet, s.Held)
	return s.settled()
}

// publishing reports whether dns-controller works for certain. It talks to the
// gossip peer on its own node, and may be scheduled on any: one control-plane node
// without a peer is enough to doubt it.
func (s State) publishing() bool {
	return s.Controller && s.Members.gossiping() > 0 && s.Members.quiet() == 0
}

// hasReaders reports whether any worker, live or about to boot, resolves names from
// the overlay.
func (s State) hasReaders() bool { return (s.Live | s.Templates).Has(Gossip) }

// key packs the state into a number, without loss; [stateOf] is its inverse.
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

// stateOf unpacks a number that [State.key] returned.
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

// flags returns pointers to the boolean fields, in the order in which key packs them.
func (s *State) flags() [20]*bool {
	return [...]*bool{
		&s.None, &s.Agent, &s.Edited, &s.Quiet, &s.Held, &s.Serves,
		&s.Classic, &s.Emptied, &s.Network, &s.API, &s.Config, &s.Moved, &s.Proven,
		&s.Lookup, &s.PolicyBridge, &s.Controller, &s.Pruning, &s.Bridge, &s.Ports, &s.Old,
	}
}
