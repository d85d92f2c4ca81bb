package report

import (
	"time"

	"github.com/muster-dev/muster/internal/plan"
)

// MigrationFormat is the format of a migration's report.
const MigrationFormat = "muster.dev/report/v1"

// Migration is the evidence of one plan that was carried out, as far as it was:
// what was planned, done, when, by whom, and what every gate found.
type Migration struct {
	Format  string `json:"format"`
	Cluster string `json:"cluster"`
	From    string `json:"from"`
	To      string `json:"to"`
	Via     string `json:"via"`
	Plan    string `json:"plan"` // the plan's ID
	// Verdict is pass if every step was done behind gates that passed; fail if
	// it was stopped, aborted or taken back; unknown while something is to come.
	Verdict Verdict `json:"verdict"`
	// Status is how the last process ended it, or "under way".
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`

	Began time.Time     `json:"began"`
	Ended time.Time     `json:"ended"` // of the last entry
	Took  time.Duration `json:"tookNs"`

	Runs         []Sitting      `json:"runs"`
	Steps        []Migrated     `json:"steps"`
	Replacements Replaced       `json:"replacements"`
	Availability []Availability `json:"availability"`
	// Unmeasured are vantage points that there were none of.
	Unmeasured  []Unmeasured `json:"unmeasured,omitempty"`
	Permissions []Permission `json:"permissions"`
	Bridges     []Bridge     `json:"bridges"`
	Rollback    []Return     `json:"rollback"` // from behind each of the plan's steps that are done
	Said        []Remark     `json:"said"`
	Journal     Chain        `json:"journal"`
}

// The words for where a step is.
const (
	StepDone      = "done"
	StepStopped   = "stopped"
	StepUnderWay  = "under way"
	StepAhead     = "not begun"
	StepTakenBack = "taken back"
)

// Sitting is one process's part of a run: from a process's beginning to its end, or to where it was
// killed.
type Sitting struct {
	Direction Direction `json:"direction"`
	By        string    `json:"by"`
	Token     uint64    `json:"token"`
	Program   string    `json:"program,omitempty"` // muster's version
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	// Result is how it ended; empty if nothing says so: it runs, or was killed.
	Result string `json:"result,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Migrated is a step as it was carried out: one of the plan, or one of a way back
// or an abort, which follow the plan's.
type Migrated struct {
	Direction    Direction     `json:"direction"`
	Number       int           `json:"number"` // among those of its direction
	ID           string        `json:"id"`
	Title        string        `json:"title"`
	Why          string        `json:"why,omitempty"`
	Status       string        `json:"status"`
	Hold         bool          `json:"hold,omitempty"`
	Irreversible bool          `json:"irreversible,omitempty"`
	By           []string      `json:"by,omitempty"`
	Began        time.Time     `json:"began,omitzero"`
	Ended        time.Time     `json:"ended,omitzero"`
	Took         time.Duration `json:"tookNs"`
	// Needs are the gates before it, as they were asked.
	Needs   []Answer `json:"needs,omitempty"`
	Actions []Acted  `json:"actions"`
}

// Acted is an action as it was carried out, in as many attempts as it took.
type Acted struct {
	ID       string        `json:"id"`
	What     string        `json:"what"`
	Group    string        `json:"group,omitempty"`
	Node     string        `json:"node,omitempty"`
	Canary   bool          `json:"canary,omitempty"`
	Replaces int           `json:"replaces,omitempty"`
	Attempts int           `json:"attempts"`
	Result   string        `json:"result,omitempty"` // of the last attempt; empty if it is not known
	Error    string        `json:"error,omitempty"`
	Evidence string        `json:"evidence,omitempty"`
	Said     []string      `json:"said,omitempty"`
	Began    time.Time     `json:"began"`
	Ended    time.Time     `json:"ended,omitzero"`
	Took     time.Duration `json:"tookNs"`
	Gates    []Answer      `json:"gates"`
}

// Answer is what a gate said, and when.
type Answer struct {
	Gate
	At time.Time `json:"at"`
}

// Replaced counts the nodes that were replaced, as a plan counts them.
type Replaced struct {
	plan.Replacements
	Nodes []Node `json:"nodes"`
}

// Node is one that was replaced.
type Node struct {
	Group  string    `json:"group"`
	Name   string    `json:"name"`
	Canary bool      `json:"canary,omitempty"`
	Step   string    `json:"step"`
	At     time.Time `json:"at"`
}

// Permission is what a role may do, before the first step and after the last one
// that is done.
type Permission struct {
	Role   string `json:"role"`
	Before string `json:"before"` // digest of its policies
	After  string `json:"after"`
	// Allowed are its actions and bindings in words, a line each; nil where nothing
	// says them.
	AllowedBefore []string `json:"allowedBefore,omitempty"`
	AllowedAfter  []string `json:"allowedAfter,omitempty"`
	// Dropped are lines of before that are gone, Gained those that are new.
	Dropped []string `json:"dropped,omitempty"`
	Gained  []string `json:"gained,omitempty"`
}

// Changed reports whether the role may now do something else.
func (p Permission) Changed() bool { return p.Before != p.After }

// Bridge is what a plan put up only for a while.
type Bridge struct {
	ID    string    `json:"id"`
	Title string    `json:"title"`
	Step  string    `json:"step"` // that put it up
	By    string    `json:"by"`
	Up    time.Time `json:"up"`            // when that began
	Down  time.Time `json:"down,omitzero"` // when it was gone for sure; zero if it may still be up
	// TakenDown is the step that took it down.
	TakenDown string `json:"takenDownIn,omitempty"`
}

// Return is the way back from behind a step to where the plan began.
type Return struct {
	plan.WayBack
	Titles []string  `json:"titles"` // what its steps do
	At     time.Time `json:"at"`     // when it was there
}

// Remark is what a person said to a run.
type Remark struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	What string    `json:"what"`
	// Direction and Step say what it was said at; empty for the run as a whole.
	Direction Direction `json:"direction,omitempty"`
	Step      string    `json:"step,omitempty"`
}

// Chain identifies the journal that a report was made of.
type Chain struct {
	Entries int    `json:"entries"`
	Head    string `json:"head"` // SHA-256 of the last entry, as it is stored
}
