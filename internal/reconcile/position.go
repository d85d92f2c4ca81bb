package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// position is where a run stands, as its plan and its journal say.
type position struct {
	leg Leg // number 0 before the first

	// begun: the step behind leg.Done has been begun.
	begun bool
	// open are its actions that were begun and have not come out well, in order.
	open []journal.Entry
	// facts are what the world was when the last step was over, the leg began, or
	// the plan was made, whichever is last.
	facts []plan.Fact
	// nodes are the machines that lived then; nil if none were seen.
	nodes []report.Living
	// carried are the IDs of all steps that were carried out, of all legs.
	carried []string
	// reached is the last step of the plan that was begun and has not been taken
	// back since; 0 if none.
	reached int
	// up are bridges that may be up, oldest first: steps of the plan.
	up []plan.Planned
	// ended is the last entry's result if it ended a run, and why.
	ended, why string
}

// where reads a position from a journal. It is the one function that decides
// what comes next, and a pure one. An error means that the journal is not one of
// this plan.
func where(f plan.File, entries []journal.Entry) (position, error) {
	p := position{facts: f.Observed}
	for _, e := range entries {
		if err := p.take(f, e); err != nil {
			return p, err
		}
	}
	return p, nil
}

// take takes in the next entry.
func (p *position) take(f plan.File, e journal.Entry) error {
	p.ended, p.why = "", ""
	whole := e.Action == "" // about a step as a whole
	switch {
	case e.Kind == journal.Begun:
		return p.begin(f, e)
	case e.Kind == journal.Ended:
		var d report.Ended
		err := detail(e, &d)
		p.ended, p.why = e.Result, d.Why
		return err
	case whole && e.Kind == journal.Intent:
		if err := p.expect(e); err != nil {
			return err
		}
		p.begun, p.open = true, nil
		p.beginStep(p.leg.Steps[p.leg.Done])
	case whole && e.Kind == journal.Outcome && e.Result == resultDone:
		if err := p.expect(e); err != nil {
			return err
		}
		return p.finish(e)
	case e.Kind == journal.Intent:
		p.close(e.Action)
		p.open = append(p.open, e)
	case e.Kind == journal.Outcome && e.Result == resultDone:
		p.close(e.Action)
	}
	return nil
}

// close takes an action off those that are open.
func (p *position) close(action string) {
	p.open = slices.DeleteFunc(slices.Clone(p.open), func(e journal.Entry) bool { return e.Action == action })
}

// begin takes in the beginning of a run.
func (p *position) begin(f plan.File, e journal.Entry) error {
	var d report.Begun
	if err := detail(e, &d); err != nil {
		return err
	}
	switch {
	case d.Plan != f.ID:
		return fmt.Errorf("entry %d is of plan %.12s and not of %.12s", e.Seq, d.Plan, f.ID)
	case d.Leg == p.leg.Number && d.Leg > 0:
		return nil // goes on
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
	p.settle()
	return nil
}

// expect checks that an entry is about the step that comes next.
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
	if s.Bridge && !slices.ContainsFunc(p.up, func(b plan.Planned) bool { return b.ID == s.ID }) {
		p.up = append(p.up, s)
	}
}

// finish takes in that a step is over.
func (p *position) finish(e journal.Entry) error {
	var d report.Outcome
	if err := detail(e, &d); err != nil {
		return err
	}
	s := p.leg.Steps[p.leg.Done]
	p.facts = d.Facts
	if p.nodes != nil {
		p.nodes = append(without(p.nodes, d.Gone), d.Born...)
	}
	p.begun, p.open = false, nil
	p.carried = append(p.carried, s.ID)
	p.leg.Done++
	p.up = slices.DeleteFunc(slices.Clone(p.up), func(b plan.Planned) bool { return b.Undo == s.ID })
	p.settle()
	return nil
}

// without returns those of some machines that are none of others, in a new slice.
func without(all, others []report.Living) []report.Living {
	in := make(map[report.Living]bool, len(others))
	for _, n := range others {
		in[n] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(n report.Living) bool { return in[n] })
}

// settle takes in that a way back has arrived.
func (p *position) settle() {
	if p.leg.Direction == report.Back && p.arrived() {
		p.reached = p.leg.After
	}
}

// arrived reports whether every step of the leg is over.
func (p *position) arrived() bool { return p.leg.Number > 0 && p.leg.Done == len(p.leg.Steps) }

// over says how the whole run is over; empty while something is left of it.
func (p *position) over() string {
	switch {
	case !p.arrived():
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

// half is the ID of the step that may be half done; empty if there is none.
func (p *position) half() string {
	if !p.begun {
		return ""
	}
	return p.leg.Steps[p.leg.Done].ID
}

// resultDone is what outcomes say that came out well.
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
