package plan

import (
	"container/heap"
	"encoding/binary"
	"errors"

	"github.com/muster-dev/muster/internal/cluster"
)

// goal reports whether a state satisfies what is searched for.
type goal func(s State) bool

// reached is the goal of the problem.
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

// keepsClassic reports whether a classic load balancer stays: workers with a list
// of endpoints need no other, and then it is all that people have.
func (p *Problem) keepsClassic(s State) bool { return p.Endpoints == Addresses && !s.balancerServes() }

// node is a node of the search tree: every state possible after some steps.
type node struct {
	runs    []run
	excused breaches
	cost    Cost
	bound   uint64 // cost so far plus the lower bound of what is left, as a weight
	parent  *node
	step    int // index of the step that led here
	order   int // of insertion; breaks ties
}

// path returns the indices of the steps that led to a node.
func (n *node) path() (steps []int) {
	for ; n.parent != nil; n = n.parent {
		steps = append(steps, n.step)
	}
	for i, j := 0, len(steps)-1; i < j; i, j = i+1, j-1 {
		steps[i], steps[j] = steps[j], steps[i]
	}
	return steps
}

// key identifies the node: nodes with equal keys have the same future.
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

// errTooManyStates ends a search that reached its limit of visits.
var errTooManyStates = errors.New("the search for a plan was given up: too many states; this cluster needs smaller questions, such as --to hybrid first")

// A searcher looks for the cheapest sequence of steps to a goal.
type searcher struct {
	p        *Problem
	steps    []Step
	explorer *explorer
	states   int    // states explored so far
	target   *State // where a rollback leads; nil when searching for the problem's goal
}

// root returns the root of the search. What is already violated there is excused
// until a step repairs it. Check explorer.err before using it.
func (s *searcher) root(starts []Start) *node {
	n := &node{}
	for _, st := range starts {
		n.excused |= s.p.violated(st.State, st.State)
	}
	for _, st := range starts {
		s.explorer.target = func(int) breaches { return ^breaches(0) }
		reach := s.explorer.explore(st.State, []uint64{st.State.key()}, nil, true)
		// What an event alone can break is no step's fault.
		n.excused |= s.explorer.found
		n.runs = append(n.runs, run{start: st.State, nominal: st.State, reach: reach})
	}
	return n
}

// search returns the cheapest node in which the goal is reached whatever happened,
// or nil if there is none.
func (s *searcher) search(begin *node, reached goal) (*node, error) {
	var open frontier
	done := make(map[string]bool)
	begin.bound = s.lowerBound(begin)
	heap.Push(&open, begin)
	order := 0
	for open.Len() > 0 && !s.explorer.cutShort {
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
			if next := s.successor(n, i); next != nil {
				order++
				next.order = order
				heap.Push(&open, next)
			}
		}
	}
	return nil, s.explorer.err()
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

// successor returns the node after one step. It is nil where the step's gates hold
// in no run, where it changes nothing, or where an invariant would be violated.
func (s *searcher) successor(n *node, step int) *node {
	t := s.steps[step]
	next := &node{excused: n.excused, parent: n, step: step}
	changed := false
	var cost Cost
	for _, r := range n.runs {
		if t.ready(s.p, r.nominal) != "" {
			continue // if this was the start, the plan stops here
		}
		after := s.explorer.runNominal(r.nominal, t)
		changed = changed || after != r.nominal || s.repairs(t, r)
		next.runs = append(next.runs, run{start: r.start, nominal: after})
		cost = maxCost(cost, s.p.cost(t, r.nominal))
	}
	if !changed {
		return nil
	}
	s.explorer.target = t.targets(n.excused)
	kept := breaches(0)
	i := 0
	for _, r := range n.runs {
		if t.ready(s.p, r.nominal) != "" {
			continue
		}
		ends := s.explorer.explore(r.start, r.reach, s.steps[step:step+1], false)
		s.states += len(s.explorer.visits)
		if s.explorer.found != 0 || s.explorer.cutShort {
			return nil
		}
		next.runs[i].reach = ends
		i++
		for _, k := range ends {
			kept |= s.p.violated(r.start, stateOf(k))
		}
	}
	next.excused &= kept // what was repaired is no longer excused
	next.runs = distinctRuns(next.runs)
	next.cost = n.cost.plus(cost)
	next.bound = next.cost.weight() + s.lowerBound(next)
	return next
}

// repairs reports whether a step changes any reachable state, even if it changes
// nothing where no event occurred.
func (s *searcher) repairs(t Step, r run) bool {
	for _, k := range r.reach {
		at := stateOf(k)
		if at.Away == 0 && t.ready(s.p, at) == "" && s.explorer.runNominal(at, t) != at {
			return true
		}
	}
	return false
}

// distinctRuns drops duplicate runs.
func distinctRuns(runs []run) []run {
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

// cost returns the cost of a step taken in a state.
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

// scale turns the cost of replacing of nodes into that of replacing n of them.
func (c *Cost) scale(n, of int) {
	c.Replaced = n
	if of > 0 {
		c.Minutes = c.Minutes * n / of
	}
}

// outdated returns the number of workers that a roll would replace.
func (p *Problem) outdated(s State) (n int) {
	if s.Live == s.Templates && s.Live.Len() == 1 {
		return 0
	}
	counted := p.counts()
	for c := range (s.Live &^ s.Templates).Each {
		n += counted[c]
	}
	if n == 0 || s.Live&^s.Templates&^p.origin().Live != 0 {
		return p.workers() // a class that the plan itself introduced was not counted
	}
	return n
}

// counts returns the number of workers of each class, as observed.
func (p *Problem) counts() (n [classCount]int) {
	for _, g := range p.groups(cluster.RoleNode) {
		for c := range classCount {
			n[c] += g.Live[c.String()]
		}
	}
	return n
}

func maxCost(a, b Cost) Cost {
	return Cost{max(a.Replaced, b.Replaced), max(a.Risk, b.Risk), max(a.Minutes, b.Minutes)}
}
