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

// Config configures a run.
type Config struct {
	// Plan is the plan to carry out. Required.
	Plan plan.File
	// Store is the cluster's state store; journal, lock and control are kept in it
	// too. Required.
	Store store.Store
	// Executor carries out the steps. Required.
	Executor Executor
	// Owner identifies the holder of the lock: user, host and process. Required.
	Owner string
	// Program is muster's version, for the journal.
	Program string
	// Called names the cluster in suggested commands, with the flags they need.
	// Default: the cluster's name.
	Called string

	// Direction is forward along the plan, back, or abort. Default forward.
	Direction report.Direction
	// To is the step that a rollback returns to; 0 is the state before the plan.
	To int

	// Wait makes the run block at a hold or a pause. Without it the run ends there
	// and the next one continues.
	Wait bool
	// Poll is how often control is read while waiting. Default 5 s.
	Poll time.Duration

	// Gates are the operator's own, checked before each step and after each action.
	Gates []Gate

	// Vantages measure throughout the run. Without any, availability is neither
	// measured nor checked.
	Vantages []Vantage
	// Unmeasured are the vantage points that could not be had, for the journal.
	Unmeasured []report.Unmeasured
	// Baseline bounds the time until every vantage point has sent twenty probes,
	// before the first action; the availability gate's tolerance is computed from
	// them. Default 3 min, enough for a pod to pull its image. A vantage point that
	// has sent fewer by then stops the run.
	Baseline time.Duration

	// Progress receives events as they happen. Default none.
	Progress Progress
}

// Progress receives the events of a run. Its methods are called from several
// goroutines and must return quickly.
type Progress interface {
	// Started is called when a leg has been chosen, before anything is done.
	Started(Leg)
	// Looked is called with every observation of the cluster.
	Looked(World)
	// Step is called when a step begins or is resumed.
	Step(s plan.Planned)
	// Acting is called when an action begins, Said with each line of its output.
	Acting(a Action)
	Said(line string)
	// Gate is called with every gate's result; node is empty for the whole cluster.
	Gate(node string, g report.Gate)
	// Outcome is called when an action ends; failure is empty if it succeeded.
	Outcome(a Action, failure string)
	// Waiting is called when the run starts to wait for a person: for what, and how
	// to continue.
	Waiting(what, how string)
	// Note is called with any other line worth showing.
	Note(text string)
	// Measured is called every second with the totals so far.
	Measured([]report.Availability)
}

// Leg is a stretch of a migration in one direction.
type Leg struct {
	Number    int
	Direction report.Direction
	After     int            // see [report.Begun]
	Steps     []plan.Planned // in order
	Done      int            // how many of them are done
}

// Result is how a run ended, unless it ended with an error.
type Result struct {
	// Ended is one of the Ended constants.
	Ended string `json:"ended"`
	// Step describes the step that the run is at; empty after the last.
	Step string `json:"step,omitempty"`
	// Reached is the last step of the plan that was begun and not undone; 0 if none.
	Reached int `json:"reached,omitempty"`
	// Why says what stopped the run, or what it waits for.
	Why string `json:"why,omitempty"`
	// Confirm is the flag that the command which goes on needs, once a person has done
	// what Why says; usually empty. See [Action.Confirm].
	Confirm string `json:"confirm,omitempty"`
	// Changed lists facts that differ from what was expected, one line each.
	Changed []string `json:"changed,omitempty"`
}

// The values of [Result.Ended].
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

// RefusedError reports that a run would be unsafe, or that there is nothing to
// continue. Nothing was done.
type RefusedError struct {
	Why     string
	Changed []string // facts that differ from what was expected, one line each
	Next    string   // what to do about it
}

func (e *RefusedError) Error() string {
	if e.Next == "" {
		return e.Why
	}
	return e.Why + "; " + e.Next
}

// MissingError reports what the executor lacks to complete a leg. Nothing was done.
type MissingError struct{ What []string }

func (e *MissingError) Error() string { return strings.Join(e.What, "; ") }

const defaultPoll = 5 * time.Second

// validate fills in defaults and returns all faults joined.
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
	if c.Plan.ID != "" {
		if err := c.Plan.Usable("plan " + RunID(c.Plan)); err != nil {
			errs = append(errs, err)
		}
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
		c.Progress = noProgress{}
	}
	return errors.Join(errs...)
}

// noProgress discards events.
type noProgress struct{}

func (noProgress) Started(Leg)                    {}
func (noProgress) Looked(World)                   {}
func (noProgress) Step(plan.Planned)              {}
func (noProgress) Acting(Action)                  {}
func (noProgress) Said(string)                    {}
func (noProgress) Gate(string, report.Gate)       {}
func (noProgress) Outcome(Action, string)         {}
func (noProgress) Waiting(string, string)         {}
func (noProgress) Note(string)                    {}
func (noProgress) Measured([]report.Availability) {}

// sleep waits for d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
