package plan

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// Certificate says what a plan was proven by.
type Certificate struct {
	// States counts the states in which every invariant was asked for: every one
	// that steps and moves can reach, at each place of the plan.
	States int `json:"states"`
	// Invariants are the names of those that hold in all of them.
	Invariants []string `json:"invariants"`
	// WorstMargin is the fewest working ways of any worker in any state; WorstAt
	// says where that is.
	WorstMargin int    `json:"worstMargin"`
	WorstAt     string `json:"worstAt,omitempty"`
	// Outages are what steps cost people while they last, one line each: nobody can
	// spare them that, and the plan announces it.
	Outages []string `json:"outages,omitempty"`
	// Excused is what was broken when the plan began, which is no step's fault.
	Excused []string `json:"excused,omitempty"`
	// Assumptions are what the model takes for granted.
	Assumptions []string `json:"assumptions"`
	// Risks are those of them that nobody has proven, with what would settle each.
	Risks []string `json:"risks,omitempty"`
}

// Violation is an invariant that does not hold, with the shortest way there.
type Violation struct {
	Invariant string   `json:"invariant"`
	Class     string   `json:"class,omitempty"` // the class of worker that it is about
	Step      int      `json:"step"`            // number of the step in which it happens, from 1
	Story     []string `json:"story"`           // what happens, in order; the last line is how it ends
}

// assumptions are the limits of the model, said out loud.
func (p *Problem) assumptions() []string {
	all := []string{
		"no second control-plane node dies while one is away",
	}
	switch {
	case p.Via == Lab:
	case p.To == cluster.Gossip:
		all = append(all, "the kOps that restores makes gossip of the spec: one before 1.36 where the API has a network load balancer")
	default:
		all = append(all, "kOps is 1.36 wherever it runs: older ones know no hybrid, later ones no gossip")
	}
	if p.Endpoints == Addresses && p.Via == Kops {
		all = append(all, "you carry it out, step by step: muster reconcile goes along a list only in a plan made --via terraform")
	}
	if p.Endpoints == Balancer {
		if p.BalancerAddresses == 1 {
			all = append(all, "the load balancer keeps its only address")
		} else {
			all = append(all, "of the load balancer's addresses at most one changes while the plan runs")
		}
	}
	return all
}

// risks are what the model takes for granted and no document says. A plan without
// an update of templates has none.
func (p *Problem) risks(steps []Step) []string {
	updates := slices.ContainsFunc(steps, func(t Step) bool { return strings.HasPrefix(t.ID, "update-") || strings.HasPrefix(t.ID, "restore-") })
	if !updates || p.Via == Lab {
		return nil
	}
	return []string{"a node reboots after an update and before it is replaced: " + bootconfig.RebootRisk}
}

// proof is what walking through a sequence of steps has shown.
type proof struct {
	states    int
	perStep   []int // states, by step
	worst     int
	class     Class
	at        int // the step of the worst margin
	excused   []breaches
	end       *node
	nominal   []State // of the first start, before each step and at the end
	stuck     int     // the step that can begin in no start, or was not explored to its end; -1 if none
	found     []found
	beginning *node
	err       error // why the walk was cut short; nothing is proven then
}

type found struct {
	breach breach
	step   int
	start  State
}

// walk takes steps one after the other and asks for every invariant on the way.
// Unless all is set it ends at the first violation.
func (p *Problem) walk(ctx context.Context, steps []Step, all bool) proof {
	s := &searcher{p: p, steps: steps, explorer: newExplorer(ctx, p)}
	n := s.begin(p.Starts)
	w := proof{worst: math.MaxInt, stuck: -1, beginning: n, nominal: []State{n.runs[0].nominal}}
	seen := breaches(0)
	for i, t := range steps {
		w.excused = append(w.excused, n.excused)
		next := &node{excused: n.excused, before: n, step: i}
		states, kept := 0, breaches(0)
		var cost Cost
		for _, r := range n.runs {
			if t.ready(p, r.nominal) != "" {
				continue
			}
			s.explorer.target = t.lookingFor(n.excused)
			ends := s.explorer.explore(r.start, r.reach, steps[i:i+1], true)
			states += len(s.explorer.visits)
			if s.explorer.worst < w.worst {
				w.worst, w.class, w.at = s.explorer.worst, s.explorer.class, i
			}
			for b := range (s.explorer.found &^ seen).each {
				w.found = append(w.found, found{b, i, r.start})
			}
			seen |= s.explorer.found
			for _, k := range ends {
				kept |= p.violated(r.start, stateOf(k))
			}
			cost = larger(cost, p.cost(t, r.nominal))
			next.runs = append(next.runs, run{r.start, s.explorer.nominally(r.nominal, t), ends})
		}
		w.states += states
		w.perStep = append(w.perStep, states)
		if len(next.runs) == 0 || s.explorer.spent {
			w.stuck = i
			break
		}
		if len(w.found) > 0 && !all {
			break
		}
		next.excused &= kept
		next.runs = merged(next.runs)
		next.cost = n.cost.plus(cost)
		w.nominal = append(w.nominal, next.runs[0].nominal)
		n = next
	}
	w.end, w.err = n, s.explorer.stopped()
	return w
}

// check walks through a sequence of steps and returns what it violates, the
// shortest story of each, the earliest first. None means that the sequence is as
// safe as a plan. It fails only if it was interrupted or has too many states to
// visit.
func (p *Problem) check(ctx context.Context, steps []Step) ([]Violation, error) {
	w := p.walk(ctx, steps, true)
	if w.err != nil {
		return nil, w.err
	}
	var all []Violation
	for _, f := range w.found {
		v, err := p.tell(ctx, steps[:f.step+1], w.excused, f)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	if last := w.end.runs[0].nominal; w.stuck < 0 && last.PolicyBridge && !p.origin().PolicyBridge {
		all = append(all, Violation{
			Invariant: Privilege.String(), Step: len(steps),
			Story: []string{"all steps are done", "the bridge policy is still there -> workers keep what only the plan needed"},
		})
	}
	slices.SortStableFunc(all, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(len(a.Story), len(b.Story)))
	})
	return all, nil
}

// tell finds the shortest way to a violation and puts it into words.
func (p *Problem) tell(ctx context.Context, steps []Step, excused []breaches, f found) (Violation, error) {
	e := newExplorer(ctx, p)
	e.target = func(over int) breaches {
		at := min(over, len(steps)-1)
		return f.breach.bit() & steps[at].lookingFor(excused[at])(over-at)
	}
	e.explore(f.start, []uint64{f.start.key()}, steps, false)
	if err := e.stopped(); err != nil {
		return Violation{}, err
	}
	v := Violation{Invariant: f.breach.invariant.String(), Step: f.step + 1}
	if f.breach.invariant <= Publisher {
		v.Class = f.breach.class.String()
	}
	if e.where < 0 {
		return v, fmt.Errorf("%s is violated and no way there is found; this is a defect of the planner", v.Invariant)
	}
	v.Step = min(int(e.visits[e.where].step)+1, len(steps))
	v.Story = append(e.story(steps), p.says(f.breach, stateOf(e.visits[e.where].state)))
	return v, nil
}

// story tells how the exploration came to its violation: of steps that are over
// their titles, of the last one its phases, and every move.
func (e *explorer) story(steps []Step) []string {
	var way []int32
	for i := e.where; i >= 0; i = e.visits[i].before {
		way = append(way, i)
	}
	last := e.visits[e.where].step
	var lines []string
	for k := len(way) - 2; k >= 0; k-- {
		from, to := e.visits[way[k+1]], e.visits[way[k]]
		a, b := stateOf(from.state), stateOf(to.state)
		switch {
		case to.by >= moveBase:
			lines = append(lines, e.moves[to.by-moveBase].says(e.p, a, b))
		case to.by != noChange && to.step == last:
			lines = append(lines, steps[to.step].phases[to.by].says(e.p, a, b))
		case to.step > from.step:
			if to.step <= last {
				lines = append(lines, fmt.Sprintf("step %d is done: %s", from.step+1, steps[from.step].Title))
			}
		}
	}
	return lines
}
