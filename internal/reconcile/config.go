package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// Config says what to carry out, on what, and who is told.
type Config struct {
	// Plan is what to carry out. Required.
	Plan plan.File
	// Store is the state store that the cluster is in; journal, lock and control
	// are beside it. Required.
	Store store.Store
	// Executor does the work. Required.
	Executor Executor
	// Owner says who does it: user, host and process. Required.
	Owner string
	// Program is muster's version, for the journal.
	Program string
	// Called is what stands for the cluster in commands that are suggested.
	// Default: its name.
	Called string

	// Direction is where to: on along the plan, back, or out. Default forward.
	Direction report.Direction
	// To is the step after which a way back ends; 0 is where the plan began.
	To int

	// Wait makes a hold or a pause wait for a person. Without it the run ends
	// there, and a later one goes on.
	Wait bool
	// Poll is how often control is looked at while waiting. Default 5 s.
	Poll time.Duration

	// Gates are the operator's own: asked before each step and after each action.
	Gates []Gate

	// Vantages measure for as long as the run lasts. With none nothing is
	// measured, and no gate asks for it.
	Vantages []Vantage
	// Unmeasured are vantage points that there are none of, for the journal.
	Unmeasured []report.Unmeasured
	// Baseline is how long it may take until every vantage point has sent twenty
	// probes, before anything is done: the availability gate's tolerance comes
	// from them. Default 3 min, in which a pod has pulled its image; one that
	// has sent fewer by then stops the run.
	Baseline time.Duration

	// Progress is told what happens, as it happens. nil tells nobody.
	Progress Progress
}

// Progress follows a run. Its methods are called from several goroutines and
// must return quickly.
type Progress interface {
	// Started is called once a leg is settled on, before anything is done.
	Started(Leg)
	// Looked is called with every look at the world.
	Looked(World)
	// Step is called when a step begins or is gone on with.
	Step(s plan.Planned)
	// Acting is called when an action begins, Said with what it says.
	Acting(a Action)
	Said(line string)
	// Gate is called with every gate's answer; node is empty for the cluster.
	Gate(node string, g report.Gate)
	// Outcome is called when an action is over; trouble is empty if all is well.
	Outcome(a Action, trouble string)
	// Waiting is called when the run waits for a person, with what for and how
	// it goes on.
	Waiting(what, how string)
	// Note is called with anything else worth a line.
	Note(text string)
	// Measured is called every second with all that was measured so far.
	Measured([]report.Availability)
}

// Leg is a stretch of a migration in one direction.
type Leg struct {
	Number    int
	Direction report.Direction
	After     int            // see [report.Begun]
	Steps     []plan.Planned // in order
	Done      int            // how many of them are over
}

// Result is how a run ended, if it was not an error that ended it.
type Result struct {
	// Ended is done, returned, aborted, stopped, holding or paused; or nothing,
	// if there was nothing to do.
	Ended string `json:"ended"`
	// Step is the step at which the run is, in words; empty behind the last.
	Step string `json:"step,omitempty"`
	// Reached is the last step of the plan that was begun and stands; 0 if none does.
	Reached int `json:"reached,omitempty"`
	// Why says what stopped it, or what it waits for.
	Why string `json:"why,omitempty"`
	// Changed is what differs from what it should be, one line each.
	Changed []string `json:"changed,omitempty"`
}

// How a run can end.
const (
	EndedDone        = "done"
	EndedReturned    = "returned"
	EndedAborted     = "aborted"
	EndedStopped     = "stopped"
	EndedHolding     = "holding"
	EndedPaused      = "paused"
	EndedInterrupted = "interrupted"
	EndedNothing     = "nothing"
)

// RefusedError says that it would not be safe, or that there is nothing to go on
// with. Nothing was done.
type RefusedError struct {
	Why     string
	Changed []string // what differs from what it should be, one line each
	Next    string   // what to do about it
}

func (e *RefusedError) Error() string {
	if e.Next == "" {
		return e.Why
	}
	return e.Why + "; " + e.Next
}

// LacksError says that the executor lacks something that a leg needs. Nothing was
// done.
type LacksError struct{ What []string }

func (e *LacksError) Error() string { return strings.Join(e.What, "; ") }

const defaultPoll = 5 * time.Second

// validate returns all faults of a configuration, and fills in defaults.
func (c *Config) validate() error {
	var errs []error
	need := func(missing bool, what string) {
		if missing {
			errs = append(errs, fmt.Errorf("reconcile: no %s", what))
		}
	}
	need(c.Plan.ID == "", "plan")
	need(c.Store == nil, "state store")
	need(c.Executor == nil, "executor")
	need(c.Owner == "", "owner")
	if c.Direction == "" {
		c.Direction = report.Forward
	}
	if c.Plan.Refused != nil {
		errs = append(errs, &RefusedError{Why: "this is no plan but a refusal: " + c.Plan.Refused.Why})
	}
	if c.Direction == report.Back && (c.To < 0 || c.To > len(c.Plan.Steps)) {
		errs = append(errs, fmt.Errorf("reconcile: no step %d; the plan has 1 to %d, and 0 is where it began", c.To, len(c.Plan.Steps)))
	}
	if c.Called == "" {
		c.Called = c.Plan.Problem.Cluster
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.Baseline <= 0 {
		c.Baseline = defaultBaseline
	}
	if c.Progress == nil {
		c.Progress = silent{}
	}
	return errors.Join(errs...)
}

// silent is the progress that nobody follows.
type silent struct{}

func (silent) Started(Leg)                    {}
func (silent) Looked(World)                   {}
func (silent) Step(plan.Planned)              {}
func (silent) Acting(Action)                  {}
func (silent) Said(string)                    {}
func (silent) Gate(string, report.Gate)       {}
func (silent) Outcome(Action, string)         {}
func (silent) Waiting(string, string)         {}
func (silent) Note(string)                    {}
func (silent) Measured([]report.Availability) {}

// pause waits, or returns false because ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
