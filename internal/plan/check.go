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

// Certificate is the evidence for a plan.
type Certificate struct {
	// States is the number of states in which every invariant was checked: all
	// that steps and events can reach, counted once per step.
	States int `json:"states"`
	// Invariants are the names of the invariants that hold in all of them.
	Invariants []string `json:"invariants"`
	// WorstMargin is the fewest working paths of any worker in any state; WorstAt
	// names the worker's class and the step.
	WorstMargin int    `json:"worstMargin"`
	WorstAt     string `json:"worstAt,omitempty"`
	// Outages are the unavoidable, temporary outages of the API for people that the
	// plan announces, one line each.
	Outages []string `json:"outages,omitempty"`
	// Excused is what was already violated when the plan began.
	Excused []string `json:"excused,omitempty"`
	// Assumptions are the limits of the model.
	Assumptions []string `json:"assumptions"`
	// Risks are assumptions that no document confirms, with what would settle each.
	Risks []string `json:"risks,omitempty"`
}

// Violation is a violated invariant, with the shortest counterexample.
type Violation struct {
	Invariant string   `json:"invariant"`
	Class     string   `json:"class,omitempty"` // the class of worker concerned
	Step      int      `json:"step"`            // in which it happens, from 1
	Story     []string `json:"story"`           // events in order; the last line is the violation
}

// assumptions returns the limits of the model that apply to the problem.
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

// risks returns the assumptions that no document confirms. A plan that updates no
// templates has none.
func (p *Problem) risks(steps []Step) []string {
	updates := slices.ContainsFunc(steps, func(t Step) bool { return strings.HasPrefix(t.ID, "update-") || strings.HasPrefix(t.ID, "restore-") })
	if !updates || p.Via == Lab {
		return nil
	}
	return []string{"a node reboots after an update and before it is replaced: " + bootconfig.RebootRisk}
}

// proof is the result of walking through a sequence of steps.
type proof struct {
	states    int
	perStep   []int // states by step
	worst     int
	class     Class
	at        int // the step of the worst margin
	excused   []breaches
	end       *node
	nominal   []State // of the first start: before each step, and at the end
	stuck     int     // the step that can begin in no run, or was not fully explored; -1 if none
	found     []finding
	beginning *node
	err       error // why the walk was cut short; nothing is proven then
}

type finding struct {
	breach breach
	step   int
	start  State
}

// walk takes steps one after the other and checks every invariant in every state
// on the way. Unless all is set it ends after the first step with a violation.
func (p *Problem) walk(ctx context.Context, steps []Step, all bool) proof {
	s := &searcher{p: p, steps: steps, explorer: newExplorer(ctx, p)}
	n := s.root(p.Starts)
	w := proof{worst: math.MaxInt, stuck: -1, beginning: n, nominal: []State{n.runs[0].nominal}}
	seen := breaches(0)
	for i, t := range steps {
		w.excused = append(w.excused, n.excused)
		next := &node{excused: n.excused, parent: n, step: i}
		states, kept := 0, breaches(0)
		var cost Cost
		for _, r := range n.runs {
			if t.ready(p, r.nominal) != "" {
				continue
			}
			s.explorer.target = t.targets(n.excused)
			ends := s.explorer.explore(r.start, r.reach, steps[i:i+1], true)
			states += len(s.explorer.visits)
			if s.explorer.worst < w.worst {
				w.worst, w.class, w.at = s.explorer.worst, s.explorer.class, i
			}
			for b := range (s.explorer.found &^ seen).each {
				w.found = append(w.found, finding{b, i, r.start})
			}
			seen |= s.explorer.found
			for _, k := range ends {
				kept |= p.violated(r.start, stateOf(k))
			}
			cost = maxCost(cost, p.cost(t, r.nominal))
			next.runs = append(next.runs, run{r.start, s.explorer.runNominal(r.nominal, t), ends})
		}
		w.states += states
		w.perStep = append(w.perStep, states)
		if len(next.runs) == 0 || s.explorer.cutShort {
			w.stuck = i
			break
		}
		if len(w.found) > 0 && !all {
			break
		}
		next.excused &= kept
		next.runs = distinctRuns(next.runs)
		next.cost = n.cost.plus(cost)
		w.nominal = append(w.nominal, next.runs[0].nominal)
		n = next
	}
	w.end, w.err = n, s.explorer.err()
	return w
}

// check walks through a sequence of steps and returns what it violates, each with
// its shortest story, the earliest first. None means that the sequence is as safe
// as a plan. The error is ctx's, or says that there are too many states.
func (p *Problem) check(ctx context.Context, steps []Step) ([]Violation, error) {
	w := p.walk(ctx, steps, true)
	if w.err != nil {
		return nil, w.err
	}
	var all []Violation
	for _, f := range w.found {
		v, err := p.counterexample(ctx, steps[:f.step+1], w.excused, f)
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

// counterexample finds the shortest way to a violation and describes it.
func (p *Problem) counterexample(ctx context.Context, steps []Step, excused []breaches, f finding) (Violation, error) {
	e := newExplorer(ctx, p)
	e.target = func(over int) breaches {
		at := min(over, len(steps)-1)
		return f.breach.bit() & steps[at].targets(excused[at])(over-at)
	}
	e.explore(f.start, []uint64{f.start.key()}, steps, false)
	if err := e.err(); err != nil {
		return Violation{}, err
	}
	v := Violation{Invariant: f.breach.invariant.String(), Step: f.step + 1}
	if f.breach.invariant <= Publisher {
		v.Class = f.breach.class.String()
	}
	if e.violatedAt < 0 {
		return v, fmt.Errorf("%s is violated and no way there is found; this is a defect of the planner", v.Invariant)
	}
	v.Step = min(int(e.visits[e.violatedAt].step)+1, len(steps))
	v.Story = append(e.story(steps), p.describeBreach(f.breach, stateOf(e.visits[e.violatedAt].state)))
	return v, nil
}

// story describes how the exploration reached its violation: the titles of
// completed steps, the phases of the last one, and every event.
func (e *explorer) story(steps []Step) []string {
	var way []int32
	for i := e.violatedAt; i >= 0; i = e.visits[i].parent {
		way = append(way, i)
	}
	last := e.visits[e.violatedAt].step
	var lines []string
	for k := len(way) - 2; k >= 0; k-- {
		from, to := e.visits[way[k+1]], e.visits[way[k]]
		a, b := stateOf(from.state), stateOf(to.state)
		switch {
		case to.cause >= eventBase:
			lines = append(lines, e.events[to.cause-eventBase].text(e.p, a, b))
		case to.cause != noCause && to.step == last:
			lines = append(lines, steps[to.step].phases[to.cause].text(e.p, a, b))
		case to.step > from.step:
			if to.step <= last {
				lines = append(lines, fmt.Sprintf("step %d is done: %s", from.step+1, steps[from.step].Title))
			}
		}
	}
	return lines
}
