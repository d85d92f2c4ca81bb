package report

import (
	"time"

	"github.com/muster-dev/muster/internal/plan"
)

// What a journal keeps in the details of its entries: the shapes that the driver
// writes and a migration's report is made of. They hold no secrets.

// Begun is the detail of an entry that begins a run.
type Begun struct {
	Plan    string `json:"plan"`    // the plan's ID, whole
	Program string `json:"program"` // muster's version
	// Unmeasured are vantage points that there are none of, and why.
	Unmeasured []Unmeasured `json:"unmeasured,omitempty"`
	// Facts are the world at the beginning of the first run.
	Facts []plan.Fact `json:"facts,omitempty"`
}

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
// stopped, holding, paused, aborted, interrupted or refused.
type Ended struct {
	Why string `json:"why,omitempty"`
	// Availability is what was measured since the last outcome.
	Availability []Availability `json:"availability,omitempty"`
}
