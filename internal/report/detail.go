package report

import (
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/plan"
)

// This file defines the details of a journal's entries. Package reconcile writes them; a migration's report is made
// from them. They contain no secrets.

// Direction is the direction of a leg of a migration.
type Direction string

// The directions.
const (
	Forward Direction = "forward" // along the plan
	Back    Direction = "back"    // to where the cluster was after an earlier step
	Abort   Direction = "abort"   // no further: only bridges are removed
)

// Begun is the detail of an entry that begins or resumes a run.
type Begun struct {
	Plan    string `json:"plan"`    // the plan's full ID
	Program string `json:"program"` // muster's version
	// Leg counts from 1 and grows with each change of direction; a run that resumes after a stop continues its leg.
	// Later entries name their step by [StepKey] among the leg's steps.
	Leg       int       `json:"leg"`
	Direction Direction `json:"direction"`
	// After is the step of the plan after which a leg forward begins, or a leg back ends; 0 is where the plan began.
	After int `json:"after"`
	// Steps are the steps of a leg back or of an abort. Those of a leg forward are the plan's.
	Steps []plan.Planned `json:"steps,omitempty"`
	// Unmeasured are the vantage points that do not measure, and why.
	Unmeasured []Unmeasured `json:"unmeasured,omitempty"`
	// Facts are the state of the cluster at the beginning of the leg.
	Facts []plan.Fact `json:"facts,omitempty"`
	// Nodes are the machines that were alive; nil if the executor cannot list them.
	Nodes []Machine `json:"nodes,omitempty"`
}

// Machine is a live machine of a group.
type Machine struct {
	Group string `json:"group"`
	Name  string `json:"name"`
}

// StepKey identifies a step of a leg in a journal's entries. The number is needed because a plan may have the same
// kind of step twice.
func StepKey(s plan.Planned) string { return fmt.Sprintf("%d %s", s.Number, s.ID) }

// Unmeasured is a vantage point that could not measure, and why.
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

// Outcome is the detail of an outcome: of an action, or, in an entry without action, of a whole step.
type Outcome struct {
	Error string `json:"error,omitempty"`
	// Said are the action's messages, one line each.
	Said []string `json:"said,omitempty"`
	// Evidence is what was collected after a failure, such as a machine's console.
	Evidence string `json:"evidence,omitempty"`
	// Availability is what was measured since the previous outcome.
	Availability []Availability `json:"availability,omitempty"`
	// Facts are the state of the cluster after a step; nil in the outcome of an action.
	Facts []plan.Fact `json:"facts,omitempty"`
	// Gone and Born are the machines that went and came since the previous step, whatever the cause; of a step only.
	Gone []Machine `json:"gone,omitempty"`
	Born []Machine `json:"born,omitempty"`
}

// Asked is the detail of a gate's result.
type Asked struct {
	Name   string        `json:"name"`
	Reason string        `json:"reason,omitempty"`
	Took   time.Duration `json:"tookNs"`
}

// NoteDetail is the detail of a person's command: a hold released, a pause.
type NoteDetail struct {
	What string `json:"what"`
}

// Ended is the detail of an entry that ends a run. The entry's result is done, returned (by a way back), stopped,
// holding, paused, aborted or interrupted.
type Ended struct {
	Why string `json:"why,omitempty"`
	// Availability is what was measured since the last outcome.
	Availability []Availability `json:"availability,omitempty"`
}

// ReplacedOnTheWay counts the nodes replaced on the last leg of a direction, by group. A leg back begins with its
// first step.
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
