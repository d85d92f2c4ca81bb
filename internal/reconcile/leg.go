package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// chooseLeg returns the leg to follow: the one in progress, or a new one.
func (d *driver) chooseLeg(ctx context.Context, to report.Direction, after int) (report.Begun, error) {
	b := report.Begun{
		Plan: d.Plan.ID, Program: d.Program, Unmeasured: d.Unmeasured,
		Leg: d.at.leg.Number, Direction: d.at.leg.Direction, After: d.at.leg.After, Steps: d.at.leg.Steps,
	}
	if b.Direction == report.Forward {
		b.Steps = nil
	}
	if b.Leg > 0 && b.Direction == to && !d.at.legDone() && (to != report.Back || b.After == after) {
		return b, nil
	}
	if err := d.checkDirection(to); err != nil {
		return b, err
	}
	if err := d.look(ctx); err != nil {
		return b, err
	}
	b.Leg, b.Direction, b.After, b.Steps = b.Leg+1, to, 0, nil
	var err error
	switch to {
	case report.Forward:
		b.After = d.at.reached
		if changed := plan.Changed(d.at.facts, d.world.Facts); len(changed) > 0 {
			return b, &RefusedError{
				Why: "the cluster changed since the plan was made", Changed: changed,
				Next: "make a new one: " + d.Plan.Problem.Again(d.Called),
			}
		}
		if b.Leg == 1 {
			err = d.beginPlan(ctx)
		}
	case report.Back:
		b.After = after
		b.Steps, err = d.rollbackSteps(ctx, after)
	case report.Abort:
		b.Steps, err = d.abortSteps()
	}
	b.Facts, b.Nodes = d.world.Facts, d.world.Nodes
	return b, err
}

// checkDirection refuses a change of direction that makes no sense.
func (d *driver) checkDirection(to report.Direction) error {
	leg, over := d.at.leg, d.at.over()
	again := "make a new plan: " + d.Plan.Problem.Again(d.Called)
	switch {
	case to != report.Forward && leg.Number == 0:
		return &RefusedError{Why: "nothing of the plan has been begun"}
	case to != report.Forward:
		return nil
	case over == EndedAborted:
		return &RefusedError{Why: "the run was aborted", Next: again}
	case over == EndedReturned:
		return &RefusedError{Why: "the run was rolled back", Next: again}
	case leg.Direction == report.Back && !d.at.legDone():
		return &RefusedError{Why: fmt.Sprintf("a way back to after step %d is under way", leg.After), Next: fmt.Sprintf("go on with it: muster reconcile rollback %s --to %d --yes", d.Called, leg.After)}
	case leg.Direction == report.Abort:
		return &RefusedError{Why: "an abort is under way", Next: "go on with it: muster reconcile abort " + d.Called + " --yes"}
	}
	return nil
}

// beginPlan stores the plan beside its journal. It refuses while another plan is in
// progress.
func (d *driver) beginPlan(ctx context.Context) error {
	other, err := Current(ctx, d.Store, d.cluster)
	if err != nil && !errors.Is(err, ErrNoRun) {
		return err
	}
	if err == nil && underWay(other) == 1 {
		next := fmt.Sprintf("see muster reconcile status %s; finish it, roll it back, or abort it", d.Called)
		if foreign := other.Plan.Usable("run " + other.ID); foreign != nil {
			next = foreign.Error()
		}
		return &RefusedError{
			Why:  fmt.Sprintf("another plan is under way: run %s, %s -> %s", other.ID, other.Plan.Problem.From, other.Plan.Problem.To),
			Next: next,
		}
	}
	data, err := d.Plan.JSON()
	if err != nil {
		return err
	}
	_, err = d.Store.Put(ctx, runKey(d.cluster, d.id, "plan.json"), data, store.Absent)
	if errors.Is(err, store.ErrConflict) {
		return nil // the key is the plan's digest: an earlier run died right after
	}
	return err
}

// states returns those that the cluster may be in, with what cannot be observed
// filled in from the journal.
func (d *driver) states() ([]plan.State, error) {
	return d.Plan.Problem.CompleteStates(d.at.completed, d.at.halfDone(), d.world.States)
}

func (d *driver) rollbackSteps(ctx context.Context, to int) ([]plan.Planned, error) {
	states, err := d.states()
	if err != nil {
		return nil, err
	}
	way, err := d.Plan.Rollback(ctx, states, d.at.reached, to)
	if err != nil {
		return nil, &RefusedError{Why: err.Error(), Next: "see how far back the plan goes: muster plan --explain"}
	}
	return way.Steps, nil
}

// abortSteps returns the steps that take the bridges down, newest first. It refuses
// if anything still needs one of them.
func (d *driver) abortSteps() ([]plan.Planned, error) {
	states, err := d.states()
	if err != nil {
		return nil, err
	}
	var steps []plan.Planned
	for _, b := range slices.Backward(d.at.bridges) {
		needs, err := d.Plan.Problem.Needs(b.Undo, states)
		if err != nil {
			return nil, err
		}
		for _, n := range needs {
			if n.Holds != yes {
				return nil, &RefusedError{
					Why:  fmt.Sprintf("step %d (%s) cannot be taken back now: whether %q holds: %s", b.Number, b.Title, n.Says, n.Holds),
					Next: fmt.Sprintf("roll back (muster reconcile rollback %s) or go on; the bridge stays up until then", d.Called),
				}
			}
		}
		steps = append(steps, plan.Planned{
			Number: len(steps) + 1, ID: b.Undo, Title: "take back: " + b.Title, Why: "the run is aborted",
			Gates: []string{}, Effects: []string{}, Meanwhile: []string{}, How: b.How,
		})
	}
	return steps, nil
}
