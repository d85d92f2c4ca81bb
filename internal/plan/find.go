package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// Plan is the result of a search: steps and their proof, or why there are none.
type Plan struct {
	// Program is the version of the muster that made it, which is told by the caller
	// of [Find]; empty if unknown.
	Program string  `json:"program,omitempty"`
	Problem Problem `json:"problem"`
	// Steps are in order; empty if there is nothing to do, or if Refused is set.
	Steps       []Planned    `json:"steps"`
	Cost        Cost         `json:"cost"`
	Replaced    Replacements `json:"replacements"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Refused     *Refusal     `json:"refused,omitempty"`
	Back        []WayBack    `json:"rollback,omitempty"`
}

// Planned is a step at its place in a plan.
type Planned struct {
	Number       int    `json:"number"`
	ID           string `json:"id"`
	Title        string `json:"title"`
	Why          string `json:"why"`
	Bridge       bool   `json:"bridge,omitempty"`
	Hold         bool   `json:"hold,omitempty"`
	Irreversible bool   `json:"irreversible,omitempty"`
	Undo         string `json:"undo,omitempty"`
	// Back: it restores the prior configuration, on a way back or in a plan to
	// gossip, so that it may produce nodes that gossip.
	Back bool `json:"back,omitempty"`

	// Gates are the conditions that must hold before the step.
	Gates []string `json:"gates"`
	// Effects are its phases, in order.
	Effects []string `json:"effects"`
	// Meanwhile lists events that may happen during it; all were explored.
	Meanwhile []string `json:"meanwhile"`
	// How lists the commands that carry it out.
	How []string `json:"how"`

	Cost   Cost `json:"cost"`
	States int  `json:"states"` // number of states in which it was proven
	// After describes the cluster after it, if no event occurs.
	After string `json:"after"`
}

// Replacements counts the nodes that a plan replaces.
type Replacements struct {
	MaxPerWorker int `json:"maxPerWorker"`
	Workers      int `json:"workers"`
	ControlPlane int `json:"controlPlane"`
	Total        int `json:"total"`
}

// Refusal is why there is no plan.
type Refusal struct {
	// Invariant is the one that blocks; empty if none does.
	Invariant string `json:"invariant"`
	// Story is the shortest counterexample for the direct way.
	Story []string `json:"story"`
	// Why is one sentence.
	Why string `json:"why"`
	// Settle lists observations that would allow a plan.
	Settle []string `json:"settle,omitempty"`
}

// Find returns the cheapest plan, or a Plan with Refused set if there is none. The
// error means that the problem is invalid, or that the search was interrupted or
// has too many states.
func Find(ctx context.Context, p Problem) (Plan, error) {
	if err := p.validate(); err != nil {
		return Plan{}, err
	}
	for i := range p.Starts {
		p.Starts[i].Key = p.Starts[i].State.key()
	}
	if len(p.Blocked) > 0 {
		return Plan{Problem: p, Steps: []Planned{}, Refused: &Refusal{Why: strings.Join(p.Blocked, "; "), Story: slices.Clone(p.Blocked)}}, nil
	}
	n, s, err := p.solve(ctx)
	if err != nil {
		return Plan{}, err
	}
	if n == nil {
		r, err := p.refusal(ctx)
		return Plan{Problem: p, Steps: []Planned{}, Refused: &r}, err
	}
	s.explorer = newExplorer(ctx, &p)
	steps := s.pickSteps(s.reorder(s.root(p.Starts), n.path()))
	return p.compose(ctx, steps)
}

// solve searches for the problem's goal.
func (p *Problem) solve(ctx context.Context) (*node, *searcher, error) {
	s := &searcher{p: p, steps: p.forwardSteps(), explorer: newExplorer(ctx, p)}
	n, err := s.search(s.root(p.Starts), p.reached)
	return n, s, err
}

func (s *searcher) pickSteps(indices []int) (steps []Step) {
	for _, i := range indices {
		steps = append(steps, s.steps[i])
	}
	return steps
}

// compose proves a sequence of steps once more, as a whole, and describes it.
func (p *Problem) compose(ctx context.Context, steps []Step) (Plan, error) {
	w := p.walk(ctx, steps, false)
	if w.err != nil {
		return Plan{}, w.err
	}
	if len(w.found) > 0 || w.stuck >= 0 || !w.end.reachedBy(p.reached) {
		return Plan{}, errors.New("a plan was found and does not hold when it is walked through; this is a defect of the planner")
	}
	pl := Plan{Problem: *p, Steps: []Planned{}, Cost: w.end.cost}
	pl.Certificate = p.certify(w, steps)
	pl.Replaced = p.replacements(steps, w.nominal)
	for i, t := range steps {
		pl.Steps = append(pl.Steps, p.describe(ctx, i, t, w))
	}
	pl.Back = p.rollbacks(ctx, steps, w)
	return pl, nil
}

func (p *Problem) certify(w proof, steps []Step) *Certificate {
	c := &Certificate{States: w.states, Invariants: Invariants(), Assumptions: p.assumptions(), Risks: p.risks(steps)}
	if len(steps) == 0 {
		c.States = len(w.beginning.runs[0].reach)
	}
	if w.worst < 1<<16 {
		c.WorstMargin = w.worst
		c.WorstAt = fmt.Sprintf("%s worker, at step %d", w.class.one(), w.at+1)
	}
	if len(steps) > 0 && w.end.runs[0].nominal.Classic {
		c.Assumptions = append(c.Assumptions, "people keep the classic load balancer: they have no other address of the API")
	}
	for i, t := range steps {
		if t.Outage != "" {
			c.Outages = append(c.Outages, fmt.Sprintf("step %d: %s", i+1, t.Outage))
		}
	}
	for b := range w.beginning.excused.each {
		c.Excused = append(c.Excused, p.describeExcused(b))
	}
	return c
}

// describeExcused describes what was violated before the plan began.
func (p *Problem) describeExcused(b breach) string {
	s := p.origin()
	switch b.invariant {
	case Boot:
		why := p.bootFault(s, b.class)
		if why == "" {
			why = "that takes no step, only an accident"
		}
		return fmt.Sprintf("%s: %s worker cannot join: %s", b.invariant, b.class.one(), why)
	case Steady:
		return fmt.Sprintf("%s: %s worker has no working way to the API", b.invariant, b.class.one())
	default:
		return b.invariant.String() + " does not hold"
	}
}

func (p *Problem) describe(ctx context.Context, i int, t Step, w proof) Planned {
	from := w.nominal[i]
	d := Planned{
		Number: i + 1, ID: t.ID, Title: t.Title, Why: t.Why,
		Bridge: t.Bridge, Hold: t.Hold, Irreversible: t.Irreversible, Undo: t.Undo, Back: p.To == cluster.Gossip,
		Gates: []string{}, Effects: []string{}, Meanwhile: []string{}, How: p.commands(t.ID),
		Cost: p.cost(t, from), States: w.perStep[i], After: w.nominal[i+1].String(),
	}
	for _, n := range t.needs {
		d.Gates = append(d.Gates, n.text)
	}
	d.Effects = append(d.Effects, newExplorer(ctx, p).trace(from, t)...)
	d.Meanwhile = p.meanwhile(from)
	return d
}

// trace describes what a step does if no event occurs.
func (e *explorer) trace(s State, t Step) (lines []string) {
	for _, phase := range t.phases {
		for {
			e.buf = phase.next(e.p, s, e.buf[:0])
			if len(e.buf) == 0 {
				break
			}
			if line := phase.text(e.p, s, e.buf[0]); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
			s = e.buf[0]
		}
	}
	return lines
}

// meanwhile lists the events that are possible in a state.
func (p *Problem) meanwhile(s State) (names []string) {
	names = append(names, "any node reboots", "the autoscaler adds or removes a worker")
	var out []State
	for _, m := range events() {
		if out = m.next(p, s, out[:0]); len(out) > 0 {
			if line := m.text(p, s, out[0]); !strings.HasPrefix(line, "the autoscaler") {
				names = append(names, line)
			}
		}
	}
	return names
}

// replacements follows each class of worker through the plan.
func (p *Problem) replacements(steps []Step, nominal []State) (r Replacements) {
	var rolled [classCount]int // replacements so far of a worker observed as a class
	var is [classCount]Class   // its current class
	for c := range classCount {
		is[c] = c
	}
	count := p.counts()
	for i, t := range steps {
		switch t.ID {
		case "roll-workers":
			for c := range classCount {
				if !nominal[i].Templates.Has(is[c]) {
					rolled[c]++
					for now := range nominal[i].Templates.Each {
						is[c] = now
					}
				}
			}
		case "roll-control-plane":
			r.ControlPlane += p.members()
		}
	}
	for c, n := range count {
		r.Workers += n * rolled[c]
		if n > 0 {
			r.MaxPerWorker = max(r.MaxPerWorker, rolled[c])
		}
	}
	r.Total = r.Workers + r.ControlPlane
	return r
}

// refusal explains why there is no plan, by what the direct way violates.
func (p *Problem) refusal(ctx context.Context) (Refusal, error) {
	r := Refusal{Story: []string{}, Why: "no order of steps keeps every invariant"}
	all, err := p.check(ctx, p.direct())
	if err != nil {
		return r, err
	}
	if i := slices.IndexFunc(all, func(v Violation) bool { return v.Class == Unresolved.String() }); i > 0 {
		all = all[i:] // prefer what no order avoids
	}
	if len(all) > 0 {
		r.Invariant, r.Story = all[0].Invariant, all[0].Story
	}
	switch {
	case p.Endpoints == Balancer && !p.CreateBalancer && !p.origin().Network:
		r.Why = "there is no load balancer that could serve nodes, and none may be made; allow one with --create-balancer, or give workers the control plane's own addresses with --endpoints list"
	case p.To == cluster.None && p.hasClassic() && !p.CreateBalancer && !p.origin().Network:
		r.Why = "the API's load balancer is a classic one, with which kOps refuses None, and no other may be made; allow one with --create-balancer"
	case r.Invariant == Privilege.String():
		r.Why = "gossip would let workers do more in the cloud than they may now"
	case p.NoBridge:
		r.Why += " without a bridge; leave out --no-bridge"
	}
	if len(p.Starts) < 2 {
		return r, nil
	}
	for _, start := range p.Starts {
		q := *p
		q.Starts = []Start{start}
		n, _, err := q.solve(ctx)
		if err != nil {
			return r, err
		}
		if n != nil {
			r.Settle = append(r.Settle, strings.Join(start.Assumes, " and "))
		}
	}
	if len(r.Settle) > 0 {
		r.Why = "whether there is a plan depends on what could not be observed"
	}
	return r, nil
}

// direct returns the steps that kOps documents.
func (p *Problem) direct() []Step {
	steps := []Step{p.setTopology()}
	steps[0].needs = nil // kOps has no gates
	switch p.To {
	case cluster.Hybrid:
		steps = nil
	case cluster.Gossip:
		steps = []Step{p.unsetTopology(), p.restoreControlPlane(), p.rollControlPlane(), p.restoreWorkers(), p.rollWorkers()}
		for i := range steps {
			steps[i].needs = nil
		}
		return steps
	}
	q := *p
	q.Via = Kops
	return append(steps, q.kopsReconcile()...)
}

// maxGroup is the largest number of nodes in a group, so that costs cannot overflow.
const maxGroup = 100_000

func (p *Problem) validate() error {
	var errs []error
	if n := len(p.Starts); n == 0 || n > maxStarts {
		errs = append(errs, fmt.Errorf("plan: %d states to start from; want 1 to %d", n, maxStarts))
	}
	if !slices.Contains([]cluster.Topology{cluster.Gossip, cluster.Hybrid, cluster.None}, p.To) {
		errs = append(errs, fmt.Errorf("plan: --to %q; want hybrid, none or gossip", p.To))
	}
	if !slices.Contains(Executors(), p.Via) {
		errs = append(errs, fmt.Errorf("plan: --via %q; want kops, terraform or lab", p.Via))
	}
	if p.Endpoints != Balancer && p.Endpoints != Addresses {
		errs = append(errs, fmt.Errorf("plan: --endpoints %q; want load-balancer or list", p.Endpoints))
	}
	if p.MaxAway < 0 {
		errs = append(errs, fmt.Errorf("plan: --max-away %d; want 1 or more", p.MaxAway))
	}
	for i, s := range p.Starts {
		if n := int(s.State.Members.up()) + int(s.State.Away); n > maxMembers {
			errs = append(errs, fmt.Errorf("plan: start %d has %d control-plane nodes; at most %d can be planned for", i+1, n, maxMembers))
		}
	}
	for _, g := range p.Groups {
		for class, n := range g.Live {
			if n < 0 || n > maxGroup {
				errs = append(errs, fmt.Errorf("plan: group %s has %d nodes of class %s; want 0 to %d", g.Name, n, class, maxGroup))
			}
		}
	}
	if n := p.members(); n > maxMembers {
		errs = append(errs, fmt.Errorf("plan: %d control-plane nodes; at most %d can be planned for", n, maxMembers))
	}
	return errors.Join(errs...)
}
