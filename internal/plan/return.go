package plan

import (
	"context"
	"fmt"
)

// Way is a proven order of steps that leads back.
type Way struct {
	// Steps are numbered from 1. None of them is a hold: whoever asks for the way
	// back has decided.
	Steps []Planned `json:"steps"`
	// States counts those in which every invariant was asked for.
	States int `json:"states"`
	// Excused is what is broken already where the way begins.
	Excused []string `json:"excused,omitempty"`
}

// maxReturn is what a search for a way back may look at before it gives up: a
// person waits for the answer.
const maxReturn = 1_000_000

// Return finds the cheapest proven way from where a cluster is to where it was
// after a step of the plan, 0 for where the plan began. now are the states that
// the cluster may be in, completed by [Problem.Recall]; reached is the last step
// that was begun.
//
// It starts from the world and not from the plan, and so from the middle of a
// step, too. The error is one line that says why there is no way.
func (pl Plan) Return(ctx context.Context, now []State, reached, to int) (Way, error) {
	p := pl.Problem
	p.effort = maxReturn
	if to < 0 || to > reached || reached > len(pl.Steps) {
		return Way{}, fmt.Errorf("there is no way back to after step %d from step %d of %d", to, reached, len(pl.Steps))
	}
	for _, s := range pl.Steps[to:reached] {
		if s.Irreversible {
			return Way{}, fmt.Errorf("no way back to after step %d: what it needs was deleted in step %d, %s", to, s.Number, s.Title)
		}
	}
	if n := len(now); n == 0 || n > maxStarts {
		return Way{}, fmt.Errorf("no way back: the cluster may be in %d states; 1 to %d can be looked at", n, maxStarts)
	}
	target, err := p.after(pl.Steps[:to])
	if err != nil {
		return Way{}, err
	}
	begin, err := p.standing(ctx, now)
	if err != nil {
		return Way{}, fmt.Errorf("no way back to after step %d: %w", to, err)
	}
	steps, states, err := p.wayTo(ctx, begin, target, p.stepsBack())
	if err != nil {
		return Way{}, fmt.Errorf("no way back to after step %d: %w", to, err)
	}
	w := Way{Steps: p.list(ctx, steps, begin), States: states}
	for b := range begin.excused.each {
		w.Excused = append(w.Excused, b.invariant.String())
	}
	return w, nil
}

// after is where steps lead from the beginning if nothing else happens.
func (p *Problem) after(steps []Planned) (State, error) {
	s := p.origin()
	e := &explorer{p: p}
	for _, d := range steps {
		t, err := p.step(d.ID)
		if err != nil {
			return s, err
		}
		s = e.nominally(s, t)
	}
	return s, nil
}

// standing is the node of a search that begins in any of some states. What
// workers may do is still compared with when the plan began.
func (p *Problem) standing(ctx context.Context, now []State) (*node, error) {
	var starts []Start
	for _, s := range now {
		starts = append(starts, Start{State: s})
	}
	e := newExplorer(ctx, p)
	n := (&searcher{p: p, explorer: e}).begin(starts)
	for i := range n.runs {
		n.runs[i].start = p.origin()
		// That people have lost their address meanwhile keeps no node from going back.
		n.excused |= p.violated(p.origin(), n.runs[i].nominal) & peopleWait
	}
	return n, e.stopped()
}

// list puts steps into words that are taken from a node on.
func (p *Problem) list(ctx context.Context, steps []Step, begin *node) []Planned {
	all := make([]Planned, 0, len(steps))
	s := &searcher{p: p, steps: steps, explorer: newExplorer(ctx, p)}
	w := proof{nominal: []State{begin.runs[0].nominal}}
	for i, n := 0, begin; n != nil && i < len(steps); i++ {
		s.states = 0
		if n = s.take(n, i); n != nil {
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
