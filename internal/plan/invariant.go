package plan

import (
	"fmt"
	"math"
	"math/bits"
)

// Invariant is what must hold in every reachable state.
type Invariant uint8

// The invariants.
const (
	// Steady: each live node has a working path to the API.
	Steady Invariant = iota
	// Boot: each node that may boot, be it from a group's current template or a
	// live one that reboots, can join.
	Boot
	// Publisher: the names that a worker resolves from the overlay are published,
	// or what was last published stays true for as long as workers read it.
	Publisher
	// Quorum: at most one control-plane node is away.
	Quorum
	// Privilege: workers never have more permissions than when the plan began,
	// except by a bridge that the plan removes.
	Privilege
	// People: where a load balancer gave people an address of the API when the
	// plan began, one still does. It may be another one: people follow by exporting
	// their kubeconfig again. A step may leave them without one while it lasts, if
	// the plan announces it; see [Step].
	People

	invariantCount
)

var invariantNames = [invariantCount]string{"steady", "boot", "publisher", "quorum", "privilege", "people"}

// String returns the invariant's name.
func (i Invariant) String() string { return invariantNames[i] }

// Invariants returns the names of all invariants.
func Invariants() []string { return invariantNames[:] }

// breach is a violated invariant, with the class of worker concerned.
type breach struct {
	invariant Invariant
	class     Class
}

// breaches is a set of breaches.
type breaches uint64

// peopleOutage means that people have no address of the API.
var peopleOutage = breach{invariant: People}.bit()

func (b breach) bit() breaches { return 1 << (uint(b.invariant)*uint(classCount) + uint(b.class)) }

func (b breaches) each(yield func(breach) bool) {
	for b != 0 {
		i := uint(bits.TrailingZeros64(uint64(b)))
		b &= b - 1
		if !yield(breach{Invariant(i / uint(classCount)), Class(i % uint(classCount))}) {
			return
		}
	}
}

// violated returns the invariants that a state violates. start is the state in
// which the plan began.
func (p *Problem) violated(start, s State) (all breaches) {
	for c := range s.Live.Each {
		if p.paths(s, c) == 0 {
			all |= breach{Steady, c}.bit()
		}
	}
	for c := range (s.Live | s.Templates).Each {
		if p.bootFault(s, c) != "" {
			all |= breach{Boot, c}.bit()
		}
	}
	if j := s.effective(); j.hasReaders() && !j.publishing() && !j.Held && !(j.Bridge && j.balancerServes()) {
		all |= breach{Publisher, Gossip}.bit()
	}
	if s.Away > 1 {
		all |= breach{invariant: Quorum}.bit()
	}
	if s.Lookup && !start.Lookup {
		all |= breach{invariant: Privilege}.bit()
	}
	if start.servesPeople() && !s.servesPeople() {
		all |= breach{invariant: People}.bit()
	}
	return all
}

// margin returns the fewest paths of any live worker in a state, and its class,
// among the classes whose Steady breach is in target.
func (p *Problem) margin(s State, target breaches) (fewest int, of Class) {
	fewest = math.MaxInt
	for c := range s.Live.Each {
		if n := bits.OnesCount8(uint8(p.paths(s, c))); n < fewest && target&(breach{Steady, c}.bit()) != 0 {
			fewest, of = n, c
		}
	}
	return fewest, of
}

// describeBreach returns the last line of a story.
func (p *Problem) describeBreach(b breach, s State) string {
	worker := p.worker(s, b.class)
	switch b.invariant {
	case Steady:
		if b.class == Gossip {
			return fmt.Sprintf("%s still resolves the API to addresses that no longer exist -> it has lost the API", worker)
		}
		return fmt.Sprintf("%s has no working way to the API -> it has lost it", worker)
	case Boot:
		what := fmt.Sprintf("%s reboots", worker)
		if !s.Live.Has(b.class) {
			what = "the autoscaler adds a worker from " + template(b.class)
		}
		return fmt.Sprintf("%s: %s -> it never joins", what, p.bootFault(s, b.class))
	case Publisher:
		return fmt.Sprintf("nobody publishes the API's names any more, and %s still takes them from the overlay -> the next control-plane node that is replaced leaves it with an address that leads nowhere", worker)
	case Quorum:
		return fmt.Sprintf("%d control-plane nodes are away at once -> etcd may have no quorum", s.Away)
	case People:
		return "no load balancer serves the API any more -> kubectl has no address of it, yours included"
	default:
		return "workers may now do more in the cloud than when the plan began"
	}
}
