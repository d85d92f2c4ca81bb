package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// position is a run's progress, derived from its plan and journal.
type position struct {
	leg Leg // number 0 before the first

	// begun reports whether step leg.Done has been begun.
	begun bool
	// open are that step's actions without a successful outcome, in order.
	open []journal.Entry
	// facts are those observed when the last step ended, the leg began, or the plan
	// was made, whichever was last.
	facts []plan.Fact
	// nodes are the machines living then; nil if none were observed.
	nodes []report.Machine
	// completed are the IDs of all completed steps of all legs.
	completed []string
	// reached is the last step of the plan that was begun and not undone; 0 if none.
	reached int
	// bridges are the plan's steps whose bridges may be up, oldest first.
	bridges []plan.Planned
	// ended and why are the last entry's result and reason, if it ended a run.
	ended, why string
}

// replay derives a position from a journal. It is pure, and the only function that
// decides what comes next. An error means that the journal does not belong to the
// plan.
func replay(f plan.File, entries []journal.Entry) (position, error) {
	p := position{facts: f.Observed}
	for _, e := range entries {
		if err := p.apply(f, e); err != nil {
			return p, err
		}
	}
	return p, nil
}

// apply advances the position by one entry.
func (p *position) apply(f plan.File, e journal.Entry) error {
	p.ended, p.why = "", ""
	wholeStep := e.Action == ""
	switch {
	case e.Kind == journal.Begun:
		return p.begin(f, e)
	case e.Kind == journal.Ended:
		var d report.Ended
		err := detail(e, &d)
		p.ended, p.why = e.Result, d.Why
		return err
	case wholeStep && e.Kind == journal.Intent:
		if err := p.expect(e); err != nil {
			return err
		}
		p.begun, p.open = true, nil
		p.beginStep(p.leg.Steps[p.leg.Done])
	case wholeStep && e.Kind == journal.Outcome && e.Result == resultDone:
		if err := p.expect(e); err != nil {
			return err
		}
		return p.finish(e)
	case e.Kind == journal.Intent:
		p.closeAction(e.Action)
		p.open = append(p.open, e)
	case e.Kind == journal.Outcome && e.Result == resultDone:
		p.closeAction(e.Action)
	}
	return nil
}

// closeAction removes an action from the open ones.
func (p *position) closeAction(action string) {
	p.open = slices.DeleteFunc(slices.Clone(p.open), func(e journal.Entry) bool { return e.Action == action })
}

// begin applies the begin entry of a run.
func (p *position) begin(f plan.File, e journal.Entry) error {
	var d report.Begun
	if err := detail(e, &d); err != nil {
		return err
	}
	switch {
	case d.Plan != f.ID:
		return fmt.Errorf("entry %d is of plan %.12s and not of %.12s", e.Seq, d.Plan, f.ID)
	case d.Leg == p.leg.Number && d.Leg > 0:
		return nil // the leg is resumed
	case d.Leg != p.leg.Number+1:
		return fmt.Errorf("entry %d begins leg %d after leg %d", e.Seq, d.Leg, p.leg.Number)
	case d.After < 0 || d.After > len(f.Steps):
		return fmt.Errorf("entry %d names step %d of %d", e.Seq, d.After, len(f.Steps))
	}
	p.leg = Leg{Number: d.Leg, Direction: d.Direction, After: d.After, Steps: d.Steps}
	if d.Direction == report.Forward {
		p.leg.Steps = f.Steps[d.After:]
	}
	p.begun, p.open = false, nil
	if d.Facts != nil {
		p.facts = d.Facts
	}
	if d.Nodes != nil {
		p.nodes = d.Nodes
	}
	p.updateReached()
	return nil
}

// expect checks that an entry is about the next step.
func (p *position) expect(e journal.Entry) error {
	if p.leg.Done >= len(p.leg.Steps) {
		return fmt.Errorf("entry %d is about step %q behind the last one", e.Seq, e.Step)
	}
	if want := report.StepKey(p.leg.Steps[p.leg.Done]); e.Step != want {
		return fmt.Errorf("entry %d is about step %q where %q is next", e.Seq, e.Step, want)
	}
	return nil
}

func (p *position) beginStep(s plan.Planned) {
	if p.leg.Direction == report.Forward {
		p.reached = s.Number
	}
	if s.Bridge && !slices.ContainsFunc(p.bridges, func(b plan.Planned) bool { return b.ID == s.ID }) {
		p.bridges = append(p.bridges, s)
	}
}

// finish applies the end of a step.
func (p *position) finish(e journal.Entry) error {
	var d report.Outcome
	if err := detail(e, &d); err != nil {
		return err
	}
	s := p.leg.Steps[p.leg.Done]
	p.facts = d.Facts
	if p.nodes != nil {
		p.nodes = append(difference(p.nodes, d.Gone), d.Born...)
	}
	p.begun, p.open = false, nil
	p.completed = append(p.completed, s.ID)
	p.leg.Done++
	p.bridges = slices.DeleteFunc(slices.Clone(p.bridges), func(b plan.Planned) bool { return b.Undo == s.ID })
	p.updateReached()
	return nil
}

// difference returns the machines in all that are not in others, in a new slice.
func difference(all, others []report.Machine) []report.Machine {
	in := make(map[report.Machine]bool, len(others))
	for _, n := range others {
		in[n] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(n report.Machine) bool { return in[n] })
}

// updateReached lowers reached once a rollback is complete.
func (p *position) updateReached() {
	if p.leg.Direction == report.Back && p.legDone() {
		p.reached = p.leg.After
	}
}

// legDone reports whether every step of the leg is done.
func (p *position) legDone() bool { return p.leg.Number > 0 && p.leg.Done == len(p.leg.Steps) }

// over returns how the run as a whole ended; empty while something is left to do.
func (p *position) over() string {
	switch {
	case !p.legDone():
		return ""
	case p.leg.Direction == report.Forward:
		return EndedDone
	case p.leg.Direction == report.Abort:
		return EndedAborted
	case p.leg.After == 0:
		return EndedReturned
	}
	return ""
}

// halfDone returns the ID of the step in progress; empty if there is none.
func (p *position) halfDone() string {
	if !p.begun {
		return ""
	}
	return p.leg.Steps[p.leg.Done].ID
}

// resultDone is the result of a successful outcome.
const resultDone = "done"

func detail(e journal.Entry, into any) error {
	if len(e.Detail) == 0 {
		return nil
	}
	if err := json.Unmarshal(e.Detail, into); err != nil {
		return fmt.Errorf("detail of entry %d: %w", e.Seq, err)
	}
	return nil
}
