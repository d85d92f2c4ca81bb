package report

import (
	"time"

	"github.com/muster-dev/muster/internal/plan"
)

// MigrationFormat is the format of a migration's report.
const MigrationFormat = "muster.dev/report/v1"

// Migration is the evidence of how a plan was carried out: what was planned and done, when, by whom, and the result of
// every gate.
type Migration struct {
	Format  string `json:"format"`
	Cluster string `json:"cluster"`
	From    string `json:"from"`
	To      string `json:"to"`
	Via     string `json:"via"`
	Plan    string `json:"plan"` // the plan's ID
	// Verdict is pass if every step was done and all its gates passed; fail if the run was stopped, aborted or taken
	// back; unknown while there is more to come.
	Verdict Verdict `json:"verdict"`
	// Status is how the last process ended, or "under way".
	Status string `json:"status"`
	Why    string `json:"why,omitempty"`

	Began time.Time     `json:"began"`
	Ended time.Time     `json:"ended"` // time of the last entry
	Took  time.Duration `json:"tookNs"`

	Runs         []Run           `json:"runs"`
	Steps        []MigrationStep `json:"steps"`
	Replacements Replaced        `json:"replacements"`
	Availability []Availability  `json:"availability"`
	// Unmeasured are the vantage points that did not measure.
	Unmeasured  []Unmeasured `json:"unmeasured,omitempty"`
	Permissions []Permission `json:"permissions"`
	Bridges     []Bridge     `json:"bridges"`
	Rollback    []Rollback   `json:"rollback"` // for each step of the plan that is done
	Said        []Command    `json:"said"`
	Journal     JournalRef   `json:"journal"`
}

// The statuses of a step.
const (
	StepDone      = "done"
	StepStopped   = "stopped"
	StepUnderWay  = "under way"
	StepAhead     = "not begun"
	StepTakenBack = "taken back"
)

// Run is the part of a migration that one process carried out, until it ended or was killed.
type Run struct {
	Direction Direction `json:"direction"`
	By        string    `json:"by"`
	Token     uint64    `json:"token"`
	Program   string    `json:"program,omitempty"` // muster's version
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	// Result is how it ended; empty if it was killed or is still running.
	Result string `json:"result,omitempty"`
	Why    string `json:"why,omitempty"`
}

// MigrationStep is a step as carried out: one of the plan, or of a rollback or an abort. Those come after the plan's.
type MigrationStep struct {
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
	// Needs are the results of the gates before it.
	Needs   []GateAnswer      `json:"needs,omitempty"`
	Actions []MigrationAction `json:"actions"`
}

// MigrationAction is an action as carried out, all attempts together.
type MigrationAction struct {
	ID       string        `json:"id"`
	What     string        `json:"what"`
	Group    string        `json:"group,omitempty"`
	Node     string        `json:"node,omitempty"`
	Canary   bool          `json:"canary,omitempty"`
	Replaces int           `json:"replaces,omitempty"`
	Attempts int           `json:"attempts"`
	Result   string        `json:"result,omitempty"` // of the last attempt; empty if unknown
	Error    string        `json:"error,omitempty"`
	Evidence string        `json:"evidence,omitempty"`
	Said     []string      `json:"said,omitempty"`
	Began    time.Time     `json:"began"`
	Ended    time.Time     `json:"ended,omitzero"`
	Took     time.Duration `json:"tookNs"`
	Gates    []GateAnswer  `json:"gates"`
}

// GateAnswer is the result of a gate at a time.
type GateAnswer struct {
	Gate
	At time.Time `json:"at"`
}

// Replaced counts the nodes that were replaced, as a plan counts them.
type Replaced struct {
	plan.Replacements
	Nodes []Node `json:"nodes"`
}

// Node is a replaced node.
type Node struct {
	Group  string    `json:"group"`
	Name   string    `json:"name"`
	Canary bool      `json:"canary,omitempty"`
	Step   string    `json:"step"`
	At     time.Time `json:"at"`
}

// Permission is what a role may do before the first step and after the last one that is done.
type Permission struct {
	Role   string `json:"role"`
	Before string `json:"before"` // digest of its policies
	After  string `json:"after"`
	// AllowedBefore and AllowedAfter are its actions and bindings as text, one a line; nil if not recorded.
	AllowedBefore []string `json:"allowedBefore,omitempty"`
	AllowedAfter  []string `json:"allowedAfter,omitempty"`
	// Dropped are the lines that were removed, Gained those that were added.
	Dropped []string `json:"dropped,omitempty"`
	Gained  []string `json:"gained,omitempty"`
}

// Changed reports whether the role's permissions changed.
func (p Permission) Changed() bool { return p.Before != p.After }

// Bridge is a bridge of the plan: something that is in place only while the plan runs.
type Bridge struct {
	ID    string    `json:"id"`
	Title string    `json:"title"`
	Step  string    `json:"step"` // the step that put it in place
	By    string    `json:"by"`
	Up    time.Time `json:"up"`            // when that step began
	Down  time.Time `json:"down,omitzero"` // when it was removed for certain; zero if it may still be up
	// TakenDown is the step that removed it.
	TakenDown string `json:"takenDownIn,omitempty"`
}

// Rollback is the way back from the state after a step to where the plan began.
type Rollback struct {
	plan.WayBack
	Titles []string  `json:"titles"` // of its steps
	At     time.Time `json:"at"`     // when that step ended
}

// Command is what a person told a run to do.
type Command struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	What string    `json:"what"`
	// Direction and Step identify the step; Step is empty for the run as a whole.
	Direction Direction `json:"direction,omitempty"`
	Step      string    `json:"step,omitempty"`
}

// JournalRef identifies the journal that a report was made from.
type JournalRef struct {
	Entries int    `json:"entries"`
	Head    string `json:"head"` // SHA-256 of the last entry as stored
}
