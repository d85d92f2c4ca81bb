package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// Executor carries out a plan's steps on one kind of cluster: the lab, one managed
// with kOps, one managed by a person's own pipeline. Its methods are not called
// concurrently.
type Executor interface {
	// Look observes the cluster. It changes nothing.
	Look(ctx context.Context) (World, error)
	// Actions returns what is left to do of a step, in order, given the cluster as
	// it is now; none if the step is done. It changes nothing. Called again after a
	// crash, it returns a half-done action under the same ID. Actions returned with
	// an error are those expected to be left, for a preview only.
	Actions(ctx context.Context, s plan.Planned) ([]Action, error)
}

// Verifier is an [Executor] that can rebuild the gates of an action that is done but
// unverified: the process died before its gates passed, or one of them stopped the
// run. Without it only the gates common to all actions are checked again.
type Verifier interface {
	// Verify returns such actions again, each with its ID and gates and a nil Do.
	// It changes nothing.
	Verify(ctx context.Context, s plan.Planned, begun []UnverifiedAction) ([]Action, error)
}

// UnverifiedAction is an action that was begun and whose gates have not all passed.
type UnverifiedAction struct {
	ID string
	report.Intent
}

// Keeper is an executor with background work for the whole run, such as a bridge
// whose record has to be refreshed.
type Keeper interface {
	Executor
	// Keep blocks until ctx ends, which is no error. It first restores what an
	// earlier run left up. say is called from Keep's own goroutines.
	Keep(ctx context.Context, say func(line string)) error
}

// PreflightChecker is an executor that may lack what some steps need, such as a binary. It
// is asked before a leg begins, so that no leg begins that could not be completed.
type PreflightChecker interface {
	// Lacks returns what is missing for the steps and how to provide it, one line
	// each.
	Lacks(steps []plan.Planned) []string
}

// World is a cluster as observed by an executor.
type World struct {
	// Facts are what a plan rests on; see [plan.Changed].
	Facts []plan.Fact
	// States are those that the cluster may be in: several where something relevant
	// could not be observed. A step's needs must hold in each.
	States []plan.State
	// Nodes are the living machines; nil where the executor sees none. Replacements
	// are found by comparing two observations.
	Nodes []report.Machine
}

// Living lists the living machines of observed groups.
func Living(groups []cloud.Group) []report.Machine {
	all := []report.Machine{}
	for _, g := range groups {
		for _, i := range g.Living() {
			all = append(all, report.Machine{Group: g.Name, Name: i.ID})
		}
	}
	return all
}

// Action changes one thing, and has gates that check whether it worked.
type Action struct {
	// ID is unique within the step and stable across crashes: the instance to be
	// replaced, not a sequence number.
	ID string
	// What describes the action to people.
	What string
	// Group and Node are its subject; empty for the whole cluster.
	Group, Node string
	// Canary marks the first of its group: if it fails, nothing else was touched.
	Canary bool
	// Replaces counts the nodes that it replaces, 0 or 1.
	Replaces int
	// Person marks an action that only a person can do. Gates that do not pass mean
	// that the run waits for them, not that it failed.
	Person bool
	// Confirm is the flag by which a person says that such an action is done, where
	// its gates cannot find out: the run ends there, even one that waits, and goes on
	// when it is started with the flag. Default "": the gates find out.
	Confirm string
	// Limit bounds Do. Default [DefaultLimit].
	Limit time.Duration
	// Do carries out the action, or continues one interrupted by a crash. It reports
	// progress to say, without secrets. nil for an action that only checks.
	Do func(ctx context.Context, say func(line string)) error
	// Gates must pass afterwards, in order.
	Gates []Gate
	// Abort cleans up when Do failed or a gate did not pass: it uncordons, or
	// removes a canary that never joined. It returns what it found as evidence. nil
	// if there is nothing to clean up.
	Abort func(ctx context.Context) (evidence string, err error)
}

// DefaultLimit bounds an action without a limit of its own.
const DefaultLimit = 15 * time.Minute

// Gate is a condition that must hold. It is checked repeatedly until it passes or
// times out, and then has its last verdict.
type Gate struct {
	Name string
	// Within is how long it may take to pass. 0 checks once.
	Within time.Duration
	// Every is the interval between checks. Default one second.
	Every time.Duration
	// Check checks once. It changes nothing. The reason is evidence.
	Check func(ctx context.Context) (verdict report.Verdict, reason string)
}

// Await checks until the gate passes or times out. An unknown verdict after a
// failure, as of a last check cut short by the timeout, does not replace it: the
// gate still fails, with both reasons.
func (g Gate) Await(ctx context.Context) report.Gate {
	began := time.Now()
	every := cmp.Or(g.Every, time.Second)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(g.Within, singleCheckTimeout))
	defer cancel()
	failure := "" // reason of the last definite failure
	for {
		verdict, reason := g.Check(ctx)
		switch {
		case verdict == report.Fail:
			failure = reason
		case verdict == report.Unknown && failure != "":
			verdict, reason = report.Fail, fmt.Sprintf("%s; the last look could not be taken: %s", failure, reason)
		}
		answer := report.Gate{Name: g.Name, Verdict: verdict, Reason: reason, Took: time.Since(began)}
		if verdict == report.Pass {
			return answer
		}
		if time.Since(began)+every > g.Within || !sleep(ctx, every) {
			if g.Within > 0 {
				answer.Reason = fmt.Sprintf("%s (after %v)", reason, time.Since(began).Round(time.Second))
			}
			return answer
		}
	}
}
