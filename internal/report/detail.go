package report

import (
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/plan"
)

// What a journal keeps in the details of its entries: the shapes that the driver
// writes and a migration's report is made of. They hold no secrets.

// Direction is where a leg of a migration leads.
type Direction string

// The directions.
const (
	Forward Direction = "forward" // on along the plan
	Back    Direction = "back"    // to where the cluster was after an earlier step
	Abort   Direction = "abort"   // nowhere: only bridges are taken down
)

// Begun is the detail of an entry that begins a run, or goes on with one.
type Begun struct {
	Plan    string `json:"plan"`    // the plan's ID, whole
	Program string `json:"program"` // muster's version
	// Leg counts from 1 and grows with each change of direction; a run that goes
	// on after a stop has the leg of the one before. Entries that follow name
	// their step by [StepKey] among the leg's steps.
	Leg       int       `json:"leg"`
	Direction Direction `json:"direction"`
	// After is the step of the plan behind which a leg forward begins, or a leg
	// back ends; 0 is where the plan began.
	After int `json:"after"`
	// Steps are those of a leg back or of an abort. A leg forward has the plan's.
	Steps []plan.Planned `json:"steps,omitempty"`
	// Unmeasured are vantage points that there are none of, and why.
	Unmeasured []Unmeasured `json:"unmeasured,omitempty"`
	// Facts are the world at the beginning of the leg.
	Facts []plan.Fact `json:"facts,omitempty"`
	// Nodes are the machines that lived then; nil where an executor sees none.
	Nodes []Living `json:"nodes,omitempty"`
}

// Living is a machine of a group that lives.
type Living struct {
	Group string `json:"group"`
	Name  string `json:"name"`
}

// StepKey names a step of a leg in a journal's entries. A plan may have the same
// kind of step twice.
func StepKey(s plan.Planned) string { return fmt.Sprintf("%d %s", s.Number, s.ID) }

// Unmeasured is where nothing is measured.
type Unmeasured struct {
	Vantage string `json:"vantage"`
	Why     string `json:"why"`
}

// Intent is the detail of an intent.
type Intent struct {
	What     string `json:"what"`
	Group    string `json:"group,omitempty"`
	Node     string `json:"node,omitempty"`
	Canary   bool   `json:"canary,omitempty"`
	Replaces int    `json:"replaces,omitempty"`
}

// Outcome is the detail of an outcome: of an action, or, in an entry that names
// no action, of a whole step.
type Outcome struct {
	Error string `json:"error,omitempty"`
	// Said is what the action said as it went, a line each.
	Said []string `json:"said,omitempty"`
	// Evidence is what was found where it did not come out well.
	Evidence string `json:"evidence,omitempty"`
	// Availability is what was measured since the outcome before.
	Availability []Availability `json:"availability,omitempty"`
	// Facts are the world after a step; nil in the outcome of an action.
	Facts []plan.Fact `json:"facts,omitempty"`
	// Gone and Born are the machines that went and came since the step before,
	// whoever was the cause; of a step only.
	Gone []Living `json:"gone,omitempty"`
	Born []Living `json:"born,omitempty"`
}

// Asked is the detail of a gate's answer.
type Asked struct {
	Name   string        `json:"name"`
	Reason string        `json:"reason,omitempty"`
	Took   time.Duration `json:"tookNs"`
}

// Said is the detail of what a person said: a hold released, a pause.
type Said struct {
	What string `json:"what"`
}

// Ended is the detail of an entry that ends a run. The entry's result is done,
// returned (by a way back), stopped, holding, paused, aborted or interrupted.
type Ended struct {
	Why string `json:"why,omitempty"`
	// Availability is what was measured since the last outcome.
	Availability []Availability `json:"availability,omitempty"`
}

// ReplacedOnTheWay counts the nodes that were replaced on the leg of a direction
// that was begun last, by their groups. A leg back begins anew with its first step.
func (m Migration) ReplacedOnTheWay(d Direction) map[string]int {
	count := map[string]int{}
	for i := len(m.Steps) - 1; i >= 0; i-- {
		s := m.Steps[i]
		if s.Direction != d || s.Status == StepTakenBack {
			continue
		}
		for _, a := range s.Actions {
			if a.Replaces > 0 && a.Result == StepDone {
				count[a.Group] += a.Replaces
			}
		}
		if d != Forward && s.Number == 1 {
			break
		}
	}
	return count
}
