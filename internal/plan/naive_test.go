package plan

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// A second, independent explorer as an oracle: it models every node and address
// individually, without abstraction or packing. It is slow and simple; on small
// clusters both must reach the same verdict.

const (
	naiveSlots = 3 // workers at most: two in the first group, one in the second
	empty      = Class(99)
)

// groupOf maps a slot to its group.
var groupOf = [naiveSlots]int{0, 0, 1}

// naiveCluster is a cluster, node by node. It is comparable.
type naiveCluster struct {
	slot      [naiveSlots]Class // class of the worker in each slot; empty if none
	template  [2]Class          // of each group
	member    [2]naiveMember
	members   int
	next      int8 // the next unused address
	deaths    int  // deaths left: just enough to make every address stale
	newQuiet  bool
	record    [2]int8 // addresses in the overlay; -1 for none
	publisher bool
	pruning   bool
	leaf      bool
	api, conf bool
	proven    bool
	lookup    bool
	policy    bool // the bridge policy
	none      bool
	foreign   bool // somebody else edited the spec
}

type naiveMember struct {
	up, gossips bool
	addr        int8
}

func newNaiveCluster(members int, workers [2]int) naiveCluster {
	t := naiveCluster{members: members, deaths: 2*members - 1, publisher: true, api: true, lookup: true}
	for i := range t.slot {
		t.slot[i] = empty
	}
	for g, n := range workers {
		t.template[g] = Gossip
		for i := range t.slot {
			if groupOf[i] == g && n > 0 {
				t.slot[i] = Gossip
				n--
			}
		}
	}
	for i := range t.member {
		t.record[i] = -1
		if i < members {
			t.member[i] = naiveMember{up: true, gossips: true, addr: t.next}
			t.next++
		}
	}
	return t.published()
}

// published returns the cluster after dns-controller has written the records, if it
// can.
func (t naiveCluster) published() naiveCluster {
	if !t.publishes() {
		return t
	}
	for i := range t.record {
		t.record[i] = -1
		if i < t.members && t.member[i].up {
			t.record[i] = t.member[i].addr
		}
	}
	return t
}

func (t naiveCluster) publishes() bool {
	up := 0
	for _, m := range t.member[:t.members] {
		if m.up && !m.gossips {
			return false
		}
		if m.up {
			up++
		}
	}
	return t.publisher && up > 0
}

// recovered returns the cluster with its control plane back, if none of it is up.
func (t naiveCluster) recovered() naiveCluster {
	for _, m := range t.member[:t.members] {
		if m.up {
			return t
		}
	}
	for i := range t.members {
		t.member[i] = naiveMember{up: true, gossips: !t.newQuiet, addr: t.next}
		t.next++
	}
	return t.published()
}

func (t naiveCluster) recordsLive() bool { // some record has the address of a live member
	t = t.recovered()
	for _, m := range t.member[:t.members] {
		for _, a := range t.record {
			if m.up && a == m.addr {
				return true
			}
		}
	}
	return false
}

// overlayWorks reports whether the names that a gossiping worker resolves lead to
// the API: the leaf's records replace those of dns-controller.
func (t naiveCluster) overlayWorks() bool {
	if t.leaf {
		return t.api
	}
	return t.recordsLive()
}

func (t naiveCluster) canJoin(c Class) bool {
	if c != Gossip {
		return t.api && t.conf
	}
	if !t.lookup && !t.policy {
		return false
	}
	seed, u := false, t.recovered()
	for _, m := range u.member[:u.members] {
		seed = seed || m.up && m.gossips
	}
	return seed && t.overlayWorks() && (!t.leaf || t.conf)
}

// violations reports the violated invariants by name.
func (t naiveCluster) violations(start naiveCluster, report func(string)) {
	gossips := false
	for _, c := range t.slot {
		switch {
		case c == empty:
			continue
		case c == Gossip && !t.overlayWorks():
			report("steady gossip")
		case c != Gossip && !t.api:
			report(fmt.Sprintf("steady %s", c))
		}
		gossips = gossips || c == Gossip
		if !t.canJoin(c) {
			report(fmt.Sprintf("boot %s", c))
		}
	}
	for _, c := range t.template {
		gossips = gossips || c == Gossip
		if !t.canJoin(c) {
			report(fmt.Sprintf("boot %s", c))
		}
	}
	if gossips && !t.recovered().publishes() && !(t.leaf && t.api) {
		report("publisher gossip")
	}
	if t.away() > 1 {
		report("quorum")
	}
	if t.lookup && !start.lookup {
		report("privilege")
	}
}

func (t naiveCluster) away() (n int) {
	for _, m := range t.member[:t.members] {
		if !m.up {
			n++
		}
	}
	return n
}

// events returns what the world may do.
func (t naiveCluster) events() (next []naiveCluster) {
	for i := range t.members {
		u := t
		if m := &u.member[i]; m.up && t.away() == 0 && t.deaths > 0 {
			m.up = false
			u.deaths--
			next = append(next, u.published())
		} else if !m.up {
			next = append(next, t.replaced(i))
		}
	}
	living := 0
	for _, c := range t.slot {
		if c != empty {
			living++
		}
	}
	for i, c := range t.slot {
		u := t
		switch {
		case c == empty && t.canJoin(t.template[groupOf[i]]):
			u.slot[i] = t.template[groupOf[i]]
			next = append(next, u)
		case c != empty && living > 1:
			u.slot[i] = empty
			next = append(next, u)
		}
	}
	if t.pruning {
		u := t
		u.pruning, u.publisher = false, false
		next = append(next, u)
	}
	if !t.foreign {
		u := t
		u.foreign = true
		next = append(next, u)
	}
	return next
}

// replaced returns the cluster with a control-plane node replaced.
func (t naiveCluster) replaced(i int) naiveCluster {
	t.member[i] = naiveMember{up: true, gossips: !t.newQuiet, addr: t.next}
	t.next++
	return t.published()
}

// exploreNaively explores a sequence of steps and returns every violation.
func exploreNaively(start naiveCluster, steps []string, gated bool) map[string]bool {
	type point struct {
		naiveCluster naiveCluster
		step, phase  int // phase 0 is before the gate
	}
	violated := make(map[string]bool)
	var seen []point
	known := make(map[point]bool)
	visit := func(p point) {
		if !known[p] {
			known[p] = true
			seen = append(seen, p)
		}
	}
	visit(point{naiveCluster: start})
	for i := 0; i < len(seen); i++ {
		p := seen[i]
		p.naiveCluster.violations(start, func(name string) { violated[name] = true })
		for _, u := range p.naiveCluster.events() {
			visit(point{u, p.step, p.phase})
		}
		switch {
		case p.step == len(steps):
		case p.phase == 0:
			if !gated || p.naiveCluster.gateOpen(steps[p.step]) {
				visit(point{p.naiveCluster, p.step, 1})
			}
		default:
			next, ok := p.naiveCluster.phase(steps[p.step], p.phase-1)
			for _, u := range next {
				visit(point{u, p.step, p.phase})
			}
			if ok && len(next) == 0 {
				visit(point{p.naiveCluster, p.step, p.phase + 1})
			} else if !ok {
				visit(point{p.naiveCluster, p.step + 1, 0})
			}
		}
	}
	return violated
}

// exploreModel does the same with the explorer under test.
func exploreModel(p *Problem, steps []Step) map[string]bool {
	e := newExplorer(context.Background(), p)
	e.target = func(int) breaches { return ^breaches(0) }
	start := p.origin()
	e.explore(start, []uint64{start.key()}, steps, true)
	violated := make(map[string]bool)
	for b := range e.found.each {
		if name := b.invariant.String(); b.invariant <= Publisher {
			violated[name+" "+b.class.String()] = true
		} else {
			violated[name] = true
		}
	}
	return violated
}

func TestTheNaiveExplorerAgrees(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("25") // each takes the naive explorer a third of a second
	}
	plan := []string{
		"expose", "prove", "publish", "add-policy", "set-none", "update-workers", "canary", "roll-workers",
		"withdraw", "remove-policy", "update-control-plane", "roll-control-plane", "remove-dns-controller", "narrow",
	}
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.IntRange(1, 2).Draw(t, "members")
		workers := [2]int{1, rapid.IntRange(0, 1).Draw(t, "workers of the second group")}
		gated := rapid.Bool().Draw(t, "gated")
		// The plan with steps left out and two of them swapped: close enough to
		// correct that most of it runs.
		var steps []string
		for _, id := range plan {
			if rapid.IntRange(0, 3).Draw(t, "keep "+id) > 0 {
				steps = append(steps, id)
			}
		}
		if n := len(steps); n > 1 {
			i, j := rapid.IntRange(0, n-1).Draw(t, "i"), rapid.IntRange(0, n-1).Draw(t, "j")
			steps[i], steps[j] = steps[j], steps[i]
		}
		steps = steps[:min(len(steps), 9)]

		p := gossiping(members, workers[0]+workers[1])
		p.BalancerAddresses = 1 // the naive load balancer keeps its address
		real := pickByID(p, steps)
		if !gated {
			real = ungate(real)
		}
		want, got := exploreNaively(newNaiveCluster(members, workers), steps, gated), exploreModel(p, real)
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Fatalf("%v\nnaive %v\nmodel %v", steps, want, got)
		}
	})
}

func pickByID(p *Problem, ids []string) (steps []Step) {
	for _, id := range ids {
		for _, s := range p.steps() {
			if s.ID == id {
				steps = append(steps, s)
			}
		}
	}
	return steps
}
