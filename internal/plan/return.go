package plan

import (
	"context"
	"fmt"
)

// Rollback is a proven order of steps that leads back.
type Rollback struct {
	// Steps are numbered from 1. None is a hold: whoever asks for the way back has
	// already decided.
	Steps []Planned `json:"steps"`
	// States is the number of states in which every invariant was checked.
	States int `json:"states"`
	// Excused names the invariants that are already violated where the way begins.
	Excused []string `json:"excused,omitempty"`
}

// maxReturn bounds the visits of a search for a way back: a person waits for the
// answer.
const maxReturn = 1_000_000

// Rollback finds the cheapest proven way from where a cluster is to where it was
// after a step of the plan, 0 for where the plan began. now are the states that
// the cluster may be in, completed by [Problem.CompleteStates]; reached is the last step
// that was begun.
//
// It starts from the cluster as it is, not from the plan, and so works in the
// middle of a step too. The error says in one line why there is no way.
func (pl Plan) Rollback(ctx context.Context, now []State, reached, to int) (Rollback, error) {
	p := pl.Problem
	p.visitLimit = maxReturn
	if to < 0 || to > reached || reached > len(pl.Steps) {
		return Rollback{}, fmt.Errorf("there is no way back to after step %d from step %d of %d", to, reached, len(pl.Steps))
	}
	for _, s := range pl.Steps[to:reached] {
		if s.Irreversible {
			return Rollback{}, fmt.Errorf("no way back to after step %d: what it needs was deleted in step %d, %s", to, s.Number, s.Title)
		}
	}
	if n := len(now); n == 0 || n > maxStarts {
		return Rollback{}, fmt.Errorf("no way back: the cluster may be in %d states; 1 to %d can be looked at", n, maxStarts)
	}
	target, err := p.stateAfter(pl.Steps[:to])
	if err != nil {
		return Rollback{}, err
	}
	begin, err := p.rootIn(ctx, now)
	if err != nil {
		return Rollback{}, fmt.Errorf("no way back to after step %d: %w", to, err)
	}
	steps, states, err := p.searchBack(ctx, begin, target, p.rollbackSteps())
	if err != nil {
		return Rollback{}, fmt.Errorf("no way back to after step %d: %w", to, err)
	}
	w := Rollback{Steps: p.describeFrom(ctx, steps, begin), States: states}
	for b := range begin.excused.each {
		w.Excused = append(w.Excused, b.invariant.String())
	}
	return w, nil
}

// stateAfter returns where steps lead from the first start if no event occurs.
func (p *Problem) stateAfter(steps []Planned) (State, error) {
	s := p.origin()
	e := &explorer{p: p}
	for _, d := range steps {
		t, err := p.step(d.ID)
		if err != nil {
			return s, err
		}
		s = e.runNominal(s, t)
	}
	return s, nil
}

// rootIn returns the root of a search that starts in any of some states. Privilege
// and People still compare with the state in which the plan began.
func (p *Problem) rootIn(ctx context.Context, now []State) (*node, error) {
	var starts []Start
	for _, s := range now {
		starts = append(starts, Start{State: s})
	}
	e := newExplorer(ctx, p)
	n := (&searcher{p: p, explorer: e}).root(starts)
	for i := range n.runs {
		n.runs[i].start = p.origin()
		// That people have lost their address must not keep nodes from going back.
		n.excused |= p.violated(p.origin(), n.runs[i].nominal) & peopleOutage
	}
	return n, e.err()
}

// describeFrom describes steps that are taken from a node on.
func (p *Problem) describeFrom(ctx context.Context, steps []Step, begin *node) []Planned {
	all := make([]Planned, 0, len(steps))
	s := &searcher{p: p, steps: steps, explorer: newExplorer(ctx, p)}
	w := proof{nominal: []State{begin.runs[0].nominal}}
	for i, n := 0, begin; n != nil && i < len(steps); i++ {
		s.states = 0
		if n = s.successor(n, i); n != nil {
			w.perStep = append(w.perStep, s.states)
			w.nominal = append(w.nominal, n.runs[0].nominal)
		}
	}
	for i, t := range steps {
		if i+1 >= len(w.nominal) {
			break // out of time
		}
		t.Hold = false
		d := p.describe(ctx, i, t, w)
		d.Back = true
		all = append(all, d)
	}
	return all
}
