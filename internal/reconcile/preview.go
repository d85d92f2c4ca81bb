package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// Preview is what a run would do now: a dry run.
type Preview struct {
	Cluster string `json:"cluster"`
	Run     string `json:"run"`
	// Over says why nothing is left to do; empty if something is.
	Over string `json:"over,omitempty"`
	// Direction is that of the leg that would be taken.
	Direction report.Direction `json:"direction"`
	// Steps are the remaining ones, in order.
	Steps []PreviewStep `json:"steps"`
	// Control holds people's requests, which a run applies before anything else.
	Control Control `json:"control"`
	// Lacks is what is missing for the run to begin, one line each.
	Lacks []string `json:"lacks,omitempty"`
	// Refused is why the run would not begin; empty if it would.
	Refused string `json:"refused,omitempty"`
	// Changed lists facts that differ from what was expected, one line each.
	Changed []string `json:"changed,omitempty"`
}

// PreviewStep is a remaining step.
type PreviewStep struct {
	Number int    `json:"number"`
	ID     string `json:"id"`
	Title  string `json:"title"`
	Hold   bool   `json:"hold,omitempty"`
	Begun  bool   `json:"begun,omitempty"`
	// Needs are the plan's gates before the step, evaluated now. For steps after the
	// next one they may change with the steps before.
	Needs []plan.Need `json:"needs"`
	// Actions are what the executor would do, as far as it can tell now.
	Actions []PreviewAction `json:"actions"`
	// Unknown is why it cannot tell.
	Unknown string `json:"unknown,omitempty"`
}

// PreviewAction is an action that would be carried out.
type PreviewAction struct {
	ID    string `json:"id"`
	What  string `json:"what"`
	Group string `json:"group,omitempty"`
	Node  string `json:"node,omitempty"`
	// Gates are checked after it. They have verdicts only in shadow mode: those of
	// now, with nothing done.
	Gates []report.Gate `json:"gates"`
}

// DryRun returns what a run would do, and does none of it: it reads the state store
// and the cluster, takes no lock and writes nothing. With shadow it also checks each
// gate once.
func DryRun(ctx context.Context, cfg Config, shadow bool) (Preview, error) {
	if err := cfg.validate(); err != nil {
		return Preview{}, err
	}
	d := &driver{Config: cfg, cluster: cfg.Plan.Problem.Cluster, id: RunID(cfg.Plan), alive: ctx}
	d.Store = readOnly{cfg.Store}
	if err := d.open(ctx); err != nil {
		return Preview{}, err
	}
	p := Preview{Cluster: d.cluster, Run: d.id, Direction: d.Direction, Steps: []PreviewStep{}}
	if result, over := d.nothingLeft(); over {
		p.Over = result.Why
		return p, nil
	}
	var err error
	if p.Control, err = readControl(ctx, d.Store, d.cluster, d.id); err != nil {
		return p, err
	}
	if err := d.look(ctx); err != nil {
		return p, err
	}
	begun, err := d.chooseLeg(ctx, d.Direction, d.To)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		p.Refused, p.Changed = refused.Error(), refused.Changed
		return p, nil
	case err != nil && !errors.Is(err, errReadOnly):
		return p, err
	}
	p.Lacks = d.lacks(begun)
	if begun.Leg != d.at.leg.Number {
		d.at.leg = Leg{Number: begun.Leg, Direction: begun.Direction, After: begun.After, Steps: begun.Steps}
		if begun.Direction == report.Forward {
			d.at.leg.Steps = d.Plan.Steps[begun.After:]
		}
		d.at.begun, d.at.facts = false, d.world.Facts
	}
	if s, ok := d.next(); ok {
		p.Changed = plan.Changed(d.at.facts, d.world.Facts)
		if d.at.begun {
			p.Changed = plan.SpecEdited(s.ID, d.at.facts, d.world.Facts)
		}
	}
	for i, s := range d.at.leg.Steps[d.at.leg.Done:] {
		step, err := d.preview(ctx, s, shadow)
		if err != nil {
			return p, err
		}
		step.Begun = i == 0 && d.at.begun
		p.Steps = append(p.Steps, step)
	}
	return p, nil
}

func (d *driver) preview(ctx context.Context, s plan.Planned, shadow bool) (PreviewStep, error) {
	step := PreviewStep{Number: s.Number, ID: s.ID, Title: s.Title, Hold: s.Hold, Needs: []plan.Need{}, Actions: []PreviewAction{}}
	states, err := d.states()
	if err == nil {
		step.Needs, err = d.Plan.Problem.Needs(s.ID, states)
	}
	if err != nil {
		return step, err
	}
	asking, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	actions, err := d.Executor.Actions(asking, s)
	if ctx.Err() != nil {
		return step, context.Cause(ctx)
	}
	if err != nil {
		step.Unknown = err.Error()
	}
	for _, a := range actions {
		p := PreviewAction{ID: a.ID, What: a.What, Group: a.Group, Node: a.Node, Gates: []report.Gate{}}
		for _, g := range append(a.Gates[:len(a.Gates):len(a.Gates)], d.Gates...) {
			answer := report.Gate{Name: g.Name}
			if shadow {
				g.Within = 0
				answer = g.Await(ctx)
			}
			p.Gates = append(p.Gates, answer)
		}
		step.Actions = append(step.Actions, p)
	}
	return step, nil
}

// lacks returns what the executor lacks for the rest of a leg.
func (d *driver) lacks(b report.Begun) []string {
	e, ok := d.Executor.(PreflightChecker)
	if !ok {
		return nil
	}
	left := b.Steps
	if b.Direction == report.Forward {
		left = d.Plan.Steps[b.After:]
	}
	if b.Leg == d.at.leg.Number {
		left = left[d.at.leg.Done:]
	}
	return e.Lacks(left)
}

// errReadOnly is returned by the store of a dry run for writes. The only write
// before the journal is that of the plan, which a dry run does not need.
var errReadOnly = errors.New("a dry run writes nothing")

// readOnly is a store that rejects writes.
type readOnly struct{ store.Store }

func (readOnly) Put(_ context.Context, key string, _ []byte, _ store.Version) (store.Version, error) {
	return "", fmt.Errorf("write %s: %w", key, errReadOnly)
}

func (readOnly) Delete(_ context.Context, key string, _ store.Version) error {
	return fmt.Errorf("delete %s: %w", key, errReadOnly)
}
