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

// Executor carries a plan's steps out on one kind of cluster: the lab, a cluster
// that kOps applies, one that a person's own pipeline applies. Its methods are
// called one at a time.
type Executor interface {
	// Look reads the world. It changes nothing.
	Look(ctx context.Context) (World, error)
	// Actions lays out what is left to do of a step, in order, from the world as
	// it is; none if it is done. It changes nothing. After a crash it is asked
	// again, and gives an action that was half done the ID that it had. Beside an
	// error, actions are what is expected to be left, for a preview alone.
	Actions(ctx context.Context, s plan.Planned) ([]Action, error)
}

// Verifier is an [Executor] that can say what has to hold once an action is done.
// It is asked about actions that were begun and are no longer left to do, and
// whose gates have not passed: the process died in between, or a gate stopped
// it. Without it only the gates that every action has are asked again.
type Verifier interface {
	// Verify lays such actions out again, each with its ID and its gates, and
	// nothing to Do. It changes nothing.
	Verify(ctx context.Context, s plan.Planned, begun []Begun) ([]Action, error)
}

// Begun is an action that was begun and whose gates have not passed.
type Begun struct {
	ID string
	report.Intent
}

// Keeper is an executor with something to hold up for as long as a run lasts,
// such as a bridge that stands only while somebody writes it again.
type Keeper interface {
	Executor
	// Keep blocks until ctx ends, which is no error. It begins with what a run
	// before left up. say may be called from another goroutine than Actions are.
	Keep(ctx context.Context, say func(line string)) error
}

// Equipped is an executor that may lack what some steps need, such as a program
// that nobody named. It is asked before a leg begins: what could not be gone along
// to its end is not begun.
type Equipped interface {
	// Lacks says what it lacks for some steps and what to do, a line each.
	Lacks(steps []plan.Planned) []string
}

// World is a cluster as an executor sees it.
type World struct {
	// Facts are what a plan rests on; see [plan.Changed].
	Facts []plan.Fact
	// States are those that the cluster may be in; several, where something that
	// matters could not be seen. A step's needs are asked of each.
	States []plan.State
	// Nodes are the machines that live; nil where the executor sees none. Which
	// of them were replaced is told from one look and the next.
	Nodes []report.Living
}

// Living names the machines that live in groups that were observed.
func Living(groups []cloud.Group) []report.Living {
	all := []report.Living{}
	for _, g := range groups {
		for _, i := range g.Living() {
			all = append(all, report.Living{Group: g.Name, Name: i.ID})
		}
	}
	return all
}

// Action changes one thing, and has gates that say whether it worked.
type Action struct {
	// ID tells it apart within its step, and is the same for the same work after
	// a crash: the instance that is replaced, not a number.
	ID string
	// What it does, for people.
	What string
	// Group and Node are what it is about; empty for the cluster as a whole.
	Group, Node string
	// Canary marks the first of its group: if it fails, nothing else was touched.
	Canary bool
	// Replaces counts the nodes that it replaces, 0 or 1.
	Replaces int
	// Person marks what nobody but a person does. Where its gates do not pass it is
	// their turn, and nothing has failed.
	Person bool
	// Limit bounds Do; 0 means [DefaultLimit].
	Limit time.Duration
	// Do carries it out, or goes on where a run before was killed. It says what
	// it does as it goes, and says no secrets. nil for one that only looks.
	Do func(ctx context.Context, say func(line string)) error
	// Gates must pass afterwards, in order.
	Gates []Gate
	// Abort leaves nothing half done when Do failed or a gate did not pass:
	// uncordons, removes a canary that never joined. It returns what it found,
	// as evidence. nil where there is nothing to tidy.
	Abort func(ctx context.Context) (evidence string, err error)
}

// DefaultLimit bounds an action that names no limit of its own.
const DefaultLimit = 15 * time.Minute

// Gate is a condition that must hold. It is asked again and again until it
// passes or its time is up, and then counts as what it last was.
type Gate struct {
	Name string
	// Within is how long it may take to pass; 0 asks once.
	Within time.Duration
	// Every is the pause between two looks; 0 means a second.
	Every time.Duration
	// Check looks once. It changes nothing. The reason is evidence.
	Check func(ctx context.Context) (verdict report.Verdict, reason string)
}

// Await asks until the gate passes or its time is up. Behind a failure a look that
// could not be taken, as the last one is that the gate's time cuts short, is no
// news: the gate still counts as failed, and says both.
func (g Gate) Await(ctx context.Context) report.Gate {
	began := time.Now()
	every := cmp.Or(g.Every, time.Second)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(g.Within, onceLimit))
	defer cancel()
	failure := "" // the last reason that was an answer
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
		if time.Since(began)+every > g.Within || !pause(ctx, every) {
			if g.Within > 0 {
				answer.Reason = fmt.Sprintf("%s (after %v)", reason, time.Since(began).Round(time.Second))
			}
			return answer
		}
	}
}
