package plan

import (
	"container/heap"
	"encoding/binary"
	"errors"

	"github.com/muster-dev/muster/internal/cluster"
)

// goal reports whether a state is what the problem wants.
type goal func(s State) bool

// reached is the goal of the problem as it is asked.
func (p *Problem) reached(s State) bool {
	want := Set(p.goal())
	if s.Templates != want || s.Live != want || s.Bridge || s.PolicyBridge {
		return false
	}
	classic := s.Classic && !p.keepsClassic(s)
	switch p.To {
	case cluster.Gossip:
		return !s.None && !s.Quiet && s.Members.quiet() == 0 && s.Controller && !s.Pruning
	case cluster.Hybrid:
		return !s.None && !s.Quiet && !s.Lookup && !classic
	default:
		return s.None && s.Quiet && s.Members.gossiping() == 0 && !s.Controller && !s.Pruning &&
			!s.Lookup && !classic && !s.Ports && !s.Old
	}
}

// keepsClassic reports whether a classic load balancer is to stay: workers with
// a list need no other, and then it is all that people have.
func (p *Problem) keepsClassic(s State) bool { return p.Endpoints == Addresses && !s.balances() }

// node is a point of the search: all that may be the case after some steps.
type node struct {
	runs    []run
	excused breaches
	cost    Cost
	bound   uint64 // cost so far and at least still to come, as a weight
	before  *node
	step    int // the step that led here, an index into the steps
	order   int // of insertion, which decides ties
}

// path returns the indices of the steps that led to a node.
func (n *node) path() (steps []int) {
	for ; n.before != nil; n = n.before {
		steps = append(steps, n.step)
	}
	for i, j := 0, len(steps)-1; i < j; i, j = i+1, j-1 {
		steps[i], steps[j] = steps[j], steps[i]
	}
	return steps
}

// key identifies what may be the case at a node.
func (n *node) key() string {
	b := binary.LittleEndian.AppendUint64(nil, uint64(n.excused))
	for _, r := range n.runs {
		b = binary.LittleEndian.AppendUint64(b, r.start.key())
		b = binary.LittleEndian.AppendUint64(b, r.nominal.key())
		b = binary.LittleEndian.AppendUint64(b, uint64(len(r.reach)))
		for _, k := range r.reach {
			b = binary.LittleEndian.AppendUint64(b, k)
		}
	}
	return string(b)
}

type frontier []*node

func (f frontier) Len() int { return len(f) }
func (f frontier) Less(i, j int) bool {
	if f[i].bound != f[j].bound {
		return f[i].bound < f[j].bound
	}
	return f[i].order < f[j].order
}
func (f frontier) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *frontier) Push(x any)   { *f = append(*f, x.(*node)) }
func (f *frontier) Pop() any {
	old := *f
	n := old[len(old)-1]
	*f = old[:len(old)-1]
	return n
}

// errSpent ends a search that would not end by itself in good time.
var errSpent = errors.New("the search for a plan was given up: too many states; this cluster needs smaller questions, such as --to hybrid first")

// A searcher looks for the cheapest sequence of steps to a goal.
type searcher struct {
	p        *Problem
	steps    []Step
	explorer *explorer
	states   int    // states explored on the way
	target   *State // a way back leads there; nil if the goal is what the problem asks for
}

// begin returns the node at which everything begins. What is broken from the
// beginning is excused until a step mends it.
func (s *searcher) begin(starts []Start) *node {
	n := &node{}
	for _, st := range starts {
		n.excused |= s.p.violated(st.State, st.State)
	}
	for _, st := range starts {
		s.explorer.target = func(int) breaches { return ^breaches(0) }
		reach := s.explorer.explore(st.State, []uint64{st.State.key()}, nil, true)
		// What a move alone can break, no step has broken.
		n.excused |= s.explorer.found
		n.runs = append(n.runs, run{start: st.State, nominal: st.State, reach: reach})
	}
	return n
}

// search returns the first node in which the goal is reached whatever happened,
// or nil.
func (s *searcher) search(begin *node, reached goal) (*node, error) {
	var open frontier
	done := make(map[string]bool)
	begin.bound = s.atLeast(begin)
	heap.Push(&open, begin)
	order := 0
	for open.Len() > 0 && !s.explorer.spent {
		n := heap.Pop(&open).(*node)
		key := n.key()
		if done[key] {
			continue
		}
		done[key] = true
		if n.reachedBy(reached) {
			return n, nil
		}
		for i := range s.steps {
			if next := s.take(n, i); next != nil {
				order++
				next.order = order
				heap.Push(&open, next)
			}
		}
	}
	return nil, s.explorer.stopped()
}

func (n *node) reachedBy(reached goal) bool {
	for _, r := range n.runs {
		if !reached(r.nominal) {
			return false
		}
		for _, k := range r.reach {
			if !reached(stateOf(k)) {
				return false
			}
		}
	}
	return true
}

// take takes one step from a node. It returns nil where the step can begin in no
// run, changes nothing, or lets an invariant be violated.
func (s *searcher) take(n *node, step int) *node {
	t := s.steps[step]
	next := &node{excused: n.excused, before: n, step: step}
	changed := false
	var cost Cost
	for _, r := range n.runs {
		if t.ready(s.p, r.nominal) != "" {
			continue // the plan stops here if this was the start
		}
		after := s.explorer.nominally(r.nominal, t)
		changed = changed || after != r.nominal || s.mends(t, r)
		next.runs = append(next.runs, run{start: r.start, nominal: after})
		cost = larger(cost, s.p.cost(t, r.nominal))
	}
	if !changed {
		return nil
	}
	s.explorer.target = t.lookingFor(n.excused)
	kept := breaches(0)
	i := 0
	for _, r := range n.runs {
		if t.ready(s.p, r.nominal) != "" {
			continue
		}
		ends := s.explorer.explore(r.start, r.reach, s.steps[step:step+1], false)
		s.states += len(s.explorer.visits)
		if s.explorer.found != 0 || s.explorer.spent {
			return nil
		}
		next.runs[i].reach = ends
		i++
		for _, k := range ends {
			kept |= s.p.violated(r.start, stateOf(k))
		}
	}
	next.excused &= kept // what is mended is excused no longer
	next.runs = merged(next.runs)
	next.cost = n.cost.plus(cost)
	next.bound = next.cost.weight() + s.atLeast(next)
	return next
}

// mends reports whether a step would change any state that may be the case, even
// if it has nothing to do where nothing happened.
func (s *searcher) mends(t Step, r run) bool {
	for _, k := range r.reach {
		at := stateOf(k)
		if at.Away == 0 && t.ready(s.p, at) == "" && s.explorer.nominally(at, t) != at {
			return true
		}
	}
	return false
}

// merged drops runs that have become the same.
func merged(runs []run) []run {
	var out []run
	seen := make(map[string]bool)
	for _, r := range runs {
		k := (&node{runs: []run{r}}).key()
		if !seen[k] {
			seen[k] = true
			out = append(out, r)
		}
	}
	return out
}

// cost is what a step costs from where it begins.
func (p *Problem) cost(t Step, from State) Cost {
	c := t.Cost
	switch t.ID {
	case "roll-workers":
		c.scale(p.outdated(from), p.workers())
	case "roll-control-plane":
		old := from.Members.gossiping()
		if !from.Quiet {
			old = from.Members.quiet()
		}
		c.scale(int(old), p.members())
	}
	return c
}

// scale makes the cost of replacing of nodes that of replacing n of them.
func (c *Cost) scale(n, of int) {
	c.Replaced = n
	if of > 0 {
		c.Minutes = c.Minutes * n / of
	}
}

// outdated counts the workers that a roll would replace.
func (p *Problem) outdated(s State) (n int) {
	if s.Live == s.Templates && s.Live.Len() == 1 {
		return 0
	}
	counted := p.counts()
	for c := range (s.Live &^ s.Templates).Each {
		n += counted[c]
	}
	if n == 0 || s.Live&^s.Templates&^p.origin().Live != 0 {
		return p.workers() // of a class that the plan itself has made
	}
	return n
}

// counts counts the workers of each class as observed.
func (p *Problem) counts() (n [classCount]int) {
	for _, g := range p.groups(cluster.RoleNode) {
		for c := range classCount {
			n[c] += g.Live[c.String()]
		}
	}
	return n
}

func larger(a, b Cost) Cost {
	return Cost{max(a.Replaced, b.Replaced), max(a.Risk, b.Risk), max(a.Minutes, b.Minutes)}
}
