package plan

import (
	"context"
	"flag"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// A second explorer, written apart from the first: every node by itself, every
// address by its number, no folding and no packing of states. It is slow and
// plain; on small clusters both must come to the same verdict.

const (
	naiveSlots = 3 // places for workers: a group of at most two and one of at most one
	nobody     = Class(99)
)

// groupOf says to which group a place belongs.
var groupOf = [naiveSlots]int{0, 0, 1}

// town is a whole cluster, node by node. It is comparable.
type town struct {
	slot      [naiveSlots]Class // what is in each place; nobody if it is free
	template  [2]Class          // of each group
	member    [2]townMember
	members   int
	next      int8 // number of the next address
	deaths    int  // left: just enough to make every address stale
	newQuiet  bool
	record    [2]int8 // addresses that the overlay says; -1 where it says none
	publisher bool
	pruning   bool
	leaf      bool
	api, conf bool
	proven    bool
	lookup    bool
	ours      bool // the policy of ours
	none      bool
	foreign   bool // the spec was edited by somebody else
}

type townMember struct {
	up, gossips bool
	addr        int8
}

func newTown(members int, workers [2]int) town {
	t := town{members: members, deaths: 2*members - 1, publisher: true, api: true, lookup: true}
	for i := range t.slot {
		t.slot[i] = nobody
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
			t.member[i] = townMember{up: true, gossips: true, addr: t.next}
			t.next++
		}
	}
	return t.told()
}

// told lets dns-controller write the records, if it can.
func (t town) told() town {
	if !t.tells() {
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

func (t town) tells() bool {
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

// revived is the town once whoever is away is back, if nobody is up.
func (t town) revived() town {
	for _, m := range t.member[:t.members] {
		if m.up {
			return t
		}
	}
	for i := range t.members {
		t.member[i] = townMember{up: true, gossips: !t.newQuiet, addr: t.next}
		t.next++
	}
	return t.told()
}

func (t town) hears() bool { // the records of a gossiping worker lead somewhere
	t = t.revived()
	for _, m := range t.member[:t.members] {
		for _, a := range t.record {
			if m.up && a == m.addr {
				return true
			}
		}
	}
	return false
}

// leads reports whether what a gossiping worker reads leads anywhere: what the
// leaf writes takes the place of what dns-controller wrote.
func (t town) leads() bool {
	if t.leaf {
		return t.api
	}
	return t.hears()
}

func (t town) joins(c Class) bool {
	if c != Gossip {
		return t.api && t.conf
	}
	if !t.lookup && !t.ours {
		return false
	}
	seed, u := false, t.revived()
	for _, m := range u.member[:u.members] {
		seed = seed || m.up && m.gossips
	}
	return seed && t.leads() && (!t.leaf || t.conf)
}

// wrong lists the violated invariants by name.
func (t town) wrong(began town, say func(string)) {
	gossips := false
	for _, c := range t.slot {
		switch {
		case c == nobody:
			continue
		case c == Gossip && !t.leads():
			say("steady gossip")
		case c != Gossip && !t.api:
			say(fmt.Sprintf("steady %s", c))
		}
		gossips = gossips || c == Gossip
		if !t.joins(c) {
			say(fmt.Sprintf("boot %s", c))
		}
	}
	for _, c := range t.template {
		gossips = gossips || c == Gossip
		if !t.joins(c) {
			say(fmt.Sprintf("boot %s", c))
		}
	}
	if gossips && !t.revived().tells() && !(t.leaf && t.api) {
		say("publisher gossip")
	}
	if t.away() > 1 {
		say("quorum")
	}
	if t.lookup && !began.lookup {
		say("privilege")
	}
}

func (t town) away() (n int) {
	for _, m := range t.member[:t.members] {
		if !m.up {
			n++
		}
	}
	return n
}

// happens lists what the world may do.
func (t town) happens() (next []town) {
	for i := range t.members {
		u := t
		if m := &u.member[i]; m.up && t.away() == 0 && t.deaths > 0 {
			m.up = false
			u.deaths--
			next = append(next, u.told())
		} else if !m.up {
			next = append(next, t.back(i))
		}
	}
	living := 0
	for _, c := range t.slot {
		if c != nobody {
			living++
		}
	}
	for i, c := range t.slot {
		u := t
		switch {
		case c == nobody && t.joins(t.template[groupOf[i]]):
			u.slot[i] = t.template[groupOf[i]]
			next = append(next, u)
		case c != nobody && living > 1:
			u.slot[i] = nobody
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

// back returns the town with the control-plane node of a place replaced.
func (t town) back(i int) town {
	t.member[i] = townMember{up: true, gossips: !t.newQuiet, addr: t.next}
	t.next++
	return t.told()
}

// naively explores a sequence of steps and returns what is violated anywhere.
func naively(began town, steps []string, gated bool) map[string]bool {
	type place struct {
		town      town
		step, act int // act 0 is before the gate
	}
	wrong := make(map[string]bool)
	var seen []place
	known := make(map[place]bool)
	visit := func(p place) {
		if !known[p] {
			known[p] = true
			seen = append(seen, p)
		}
	}
	visit(place{town: began})
	for i := 0; i < len(seen); i++ {
		p := seen[i]
		p.town.wrong(began, func(name string) { wrong[name] = true })
		for _, u := range p.town.happens() {
			visit(place{u, p.step, p.act})
		}
		switch {
		case p.step == len(steps):
		case p.act == 0:
			if !gated || p.town.open(steps[p.step]) {
				visit(place{p.town, p.step, 1})
			}
		default:
			next, ok := p.town.acts(steps[p.step], p.act-1)
			for _, u := range next {
				visit(place{u, p.step, p.act})
			}
			if ok && len(next) == 0 {
				visit(place{p.town, p.step, p.act + 1})
			} else if !ok {
				visit(place{p.town, p.step + 1, 0})
			}
		}
	}
	return wrong
}

// folded does the same with the real explorer.
func folded(p *Problem, steps []Step) map[string]bool {
	e := newExplorer(context.Background(), p)
	e.target = func(int) breaches { return ^breaches(0) }
	start := p.origin()
	e.explore(start, []uint64{start.key()}, steps, true)
	wrong := make(map[string]bool)
	for b := range e.found.each {
		if name := b.invariant.String(); b.invariant <= Publisher {
			wrong[name+" "+b.class.String()] = true
		} else {
			wrong[name] = true
		}
	}
	return wrong
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
		// The plan with steps left out and two of them swapped: near enough to
		// right that most of it runs.
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
		p.BalancerAddresses = 1 // the town's load balancer keeps its address
		real := pickByID(p, steps)
		if !gated {
			real = ungate(real)
		}
		want, got := naively(newTown(members, workers), steps, gated), folded(p, real)
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Fatalf("%v\nnaively %v\nfolded  %v", steps, want, got)
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
