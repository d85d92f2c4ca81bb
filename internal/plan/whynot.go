package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Proposal is a proposed order of steps, and the verdict on it.
type Proposal struct {
	Order      string      `json:"order"`
	Steps      []string    `json:"steps"` // titles, in order
	Violations []Violation `json:"violations"`
	Cost       Cost        `json:"cost"`
	// Arrives reports whether it reaches the plan's goal.
	Arrives bool `json:"arrives"`
	// Instead is the plan's own, proven order: the IDs of its steps.
	Instead []string `json:"instead"`
}

// Safe reports whether the order keeps every invariant.
func (p Proposal) Safe() bool { return len(p.Violations) == 0 }

// namedOrders are the orders that can be checked by name.
var namedOrders = []struct {
	name string
	text string
	make func(p *Problem) []Step
}{
	{"reconcile", "kops reconcile, as the spec is", func(p *Problem) []Step { return p.kopsReconcile() }},
	{"reconcile twice", "kops's documented way: reconcile, set None, reconcile", func(p *Problem) []Step {
		return append(append(p.kopsReconcile(), p.setTopology()), p.kopsReconcile()...)
	}},
	{"none directly", "set None and reconcile once", func(p *Problem) []Step { return append([]Step{p.setTopology()}, p.kopsReconcile()...) }},
	{"roll control plane first", "set None, update and replace the control plane, then the workers", func(p *Problem) []Step {
		return []Step{p.setTopology(), p.kopsUpdate(false), p.kopsRoll(false), p.updateWorkers(), p.rollWorkers()}
	}},
	{"roll workers first", "set None, update everything, replace the workers, then the control plane", func(p *Problem) []Step {
		return []Step{p.setTopology(), p.kopsUpdate(true), p.rollWorkers(), p.kopsRoll(false)}
	}},
	{"narrow first", "narrow the workers' role before anything else", func(p *Problem) []Step { return []Step{p.narrow()} }},
	{"terraform apply", "apply everything that kOps wrote at once", func(p *Problem) []Step { return []Step{p.setTopology(), p.terraformFirstPass()} }},
}

// ProposalNames returns the name and description of each order that has a name.
func ProposalNames() (all [][2]string) {
	for _, i := range namedOrders {
		all = append(all, [2]string{i.name, i.text})
	}
	return all
}

// WhyNot checks a proposed order. text is one of [ProposalNames], or a change to the
// plan: "without STEP", "STEP first", "STEP last" or "STEP before STEP", each STEP
// by its ID. Gates are ignored: they would only stop the order sooner. The error
// means that text is not understood, or that the check was interrupted or has too
// many states.
func WhyNot(ctx context.Context, pl Plan, text string) (Proposal, error) {
	p := pl.Problem
	steps, err := p.parseOrder(pl, strings.Join(strings.Fields(strings.ToLower(text)), " "))
	if err != nil {
		return Proposal{}, err
	}
	proposal := Proposal{Order: text, Violations: []Violation{}, Instead: []string{}}
	for _, s := range pl.Steps {
		proposal.Instead = append(proposal.Instead, s.ID)
	}
	for i := range steps {
		steps[i].needs = nil
		proposal.Steps = append(proposal.Steps, steps[i].Title)
	}
	violations, err := p.check(ctx, steps)
	if err != nil {
		return Proposal{}, fmt.Errorf("check %q: %w", clip(text), err)
	}
	proposal.Violations = append(proposal.Violations, violations...)
	w := p.walk(ctx, steps, true)
	if w.err != nil {
		return Proposal{}, fmt.Errorf("check %q: %w", clip(text), w.err)
	}
	proposal.Cost, proposal.Arrives = w.end.cost, w.stuck < 0 && w.end.reachedBy(p.reached)
	return proposal, nil
}

// parseOrder returns the steps that text stands for.
func (p *Problem) parseOrder(pl Plan, text string) ([]Step, error) {
	for _, i := range namedOrders {
		if i.name == text {
			return i.make(p), nil
		}
	}
	if len(pl.Steps) == 0 {
		return nil, fmt.Errorf("%q changes a plan, and there is none to change; known ideas are %s", clip(text), orderNames())
	}
	var steps []Step
	for _, s := range pl.Steps {
		i := slices.IndexFunc(p.steps(), func(t Step) bool { return t.ID == s.ID })
		if i < 0 {
			return nil, fmt.Errorf("the plan has a step %q that this muster does not know", clip(s.ID))
		}
		steps = append(steps, p.steps()[i])
	}
	words := strings.Fields(text)
	switch {
	case len(words) == 2 && words[0] == "without":
		return remove(steps, words[1])
	case len(words) == 2 && words[1] == "first":
		return move(steps, words[0], steps[0].ID)
	case len(words) == 2 && words[1] == "last":
		return move(steps, words[0], "")
	case len(words) == 3 && words[1] == "before":
		return move(steps, words[0], words[2])
	}
	return nil, fmt.Errorf("%q is no order that can be checked; known are %s, and without STEP, STEP first, STEP last, STEP before STEP", clip(text), orderNames())
}

func orderNames() string {
	var names []string
	for _, i := range namedOrders {
		names = append(names, "'"+i.name+"'")
	}
	return strings.Join(names, ", ")
}

func indexOf(steps []Step, id string) (int, error) {
	i := slices.IndexFunc(steps, func(t Step) bool { return t.ID == id })
	if i < 0 {
		return 0, fmt.Errorf("the plan has no step %q", clip(id))
	}
	return i, nil
}

func remove(steps []Step, id string) ([]Step, error) {
	i, err := indexOf(steps, id)
	if err != nil {
		return nil, err
	}
	return slices.Delete(steps, i, i+1), nil
}

// move moves a step before another, or to the end if before is empty.
func move(steps []Step, id, before string) ([]Step, error) {
	i, err := indexOf(steps, id)
	if err != nil {
		return nil, err
	}
	moved := steps[i]
	steps = slices.Delete(steps, i, i+1)
	if before == "" {
		return append(steps, moved), nil
	}
	if before == id {
		return slices.Insert(steps, i, moved), nil
	}
	j, err := indexOf(steps, before)
	if err != nil {
		return nil, err
	}
	return slices.Insert(steps, j, moved), nil
}

// Find returns the step with a number or an ID.
func (pl Plan) Find(step string) (Planned, error) {
	for _, s := range pl.Steps {
		if s.ID == step || fmt.Sprint(s.Number) == step {
			return s, nil
		}
	}
	return Planned{}, fmt.Errorf("no step %q; the plan has 1 to %d", clip(step), len(pl.Steps))
}

// Diff describes the differences between two plans, one line each.
func Diff(a, b Plan) (lines []string) {
	if a.Problem.Cluster != b.Problem.Cluster {
		lines = append(lines, fmt.Sprintf("cluster   %s -> %s", a.Problem.Cluster, b.Problem.Cluster))
	}
	of := func(what string, was, is any) {
		if was, is := fmt.Sprint(was), fmt.Sprint(is); was != is {
			lines = append(lines, fmt.Sprintf("%s   %s -> %s", what, was, is))
		}
	}
	of("target", a.Problem.To, b.Problem.To)
	of("via", a.Problem.Via, b.Problem.Via)
	of("endpoints", a.Problem.Endpoints, b.Problem.Endpoints)
	of("bridges", !a.Problem.NoBridge, !b.Problem.NoBridge)
	of("refused", a.Refused != nil, b.Refused != nil)
	of("replacements per worker", a.Replaced.MaxPerWorker, b.Replaced.MaxPerWorker)
	of("nodes replaced", a.Replaced.Total, b.Replaced.Total)
	of("minutes", a.Cost.Minutes, b.Cost.Minutes)
	return append(lines, diffSteps(a.Steps, b.Steps)...)
}

// diffSteps lists what is outside the longest common subsequence.
func diffSteps(a, b []Planned) (lines []string) {
	n, m := len(a), len(b)
	common := make([][]int, n+1)
	for i := range common {
		common[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if a[i].ID == b[j].ID {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < n || j < m; {
		switch {
		case i < n && j < m && a[i].ID == b[j].ID:
			i, j = i+1, j+1
		case j == m || i < n && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, fmt.Sprintf("- %d  %s", a[i].Number, a[i].Title))
			i++
		default:
			lines = append(lines, fmt.Sprintf("+ %d  %s", b[j].Number, b[j].Title))
			j++
		}
	}
	return lines
}
