package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// Run carries a plan out, or goes on where an earlier run of it ended or died.
// It blocks until the plan is done, something stops it, or ctx ends.
//
// A gate that does not pass is a Result, and no error. Errors are: bad input, a
// [*lock.HeldError], a [*RefusedError], a [*LacksError], a state store that does
// not answer, the loss of the lock ([lock.ErrLost], [journal.ErrFenced]), and ctx's
// own. After the loss of the lock nothing more is done, not even tidying: somebody
// else is at it.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if err := cfg.validate(); err != nil {
		return Result{}, err
	}
	name := cfg.Plan.Problem.Cluster
	reason := fmt.Sprintf("plan %s, %s -> %s, %s", RunID(cfg.Plan), cfg.Plan.Problem.From, cfg.Plan.Problem.To, cfg.Direction)
	held, err := lock.Acquire(ctx, cfg.Store, LockKey(name), cfg.Owner, reason)
	if err != nil {
		return Result{}, err
	}
	// alive outlasts an interruption and ends when the lock is lost: what tidies
	// up and what is journalled runs under it.
	alive, lose := context.WithCancelCause(context.WithoutCancel(ctx))
	defer lose(nil)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(alive, func() { cancel(context.Cause(alive)) })
	d := &driver{
		Config: cfg, cluster: name, id: RunID(cfg.Plan), alive: alive, lose: lose,
		writer: journal.Writer{By: held.Owner(), Token: held.Token()},
	}
	keeping, stopKeeping := context.WithCancel(alive)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		if err := held.Keep(keeping); err != nil {
			lose(err)
		}
	})
	result, err := d.run(ctx)
	stopKeeping()
	keeper.Wait()
	if cause := context.Cause(alive); cause != nil {
		return result, cause
	}
	ending, done := context.WithTimeout(alive, tidyLimit)
	defer done()
	return result, errors.Join(err, held.Release(ending))
}

// tidyLimit bounds what is done after an interruption or a failure: an action's
// Abort, an entry of the journal, the release of the lock.
const tidyLimit = 2 * time.Minute

// driver is one run.
type driver struct {
	Config
	cluster, id string
	alive       context.Context // see [Run]
	lose        context.CancelCauseFunc
	writer      journal.Writer

	journal   *journal.Journal
	at        position
	world     World // as it was looked at last
	meter     Meter
	tolerance map[string]time.Duration // of each vantage point, from what was measured before
}

// run settles on a leg and goes along it; an abort that is asked for on the way
// is a leg of its own.
func (d *driver) run(ctx context.Context) (Result, error) {
	if err := d.open(ctx); err != nil {
		return Result{}, err
	}
	if result, over := d.nothingLeft(); over {
		return result, nil
	}
	begun, err := d.settle(ctx, d.Direction, d.To)
	if err != nil {
		return Result{}, err
	}
	if lacking := d.lacks(begun); len(lacking) > 0 {
		return Result{}, &LacksError{lacking}
	}
	if err := d.begin(ctx, begun); err != nil {
		return Result{}, err
	}
	watching := d.watch(ctx)
	defer watching.stop()
	if result, err := d.baseline(ctx, watching); result.Ended != "" || err != nil {
		return d.end(ctx, result, err)
	}
	result, err := d.steps(ctx)
	for err == nil && result.Ended == asked {
		if begun, err = d.settle(ctx, report.Abort, 0); err != nil {
			if refused := new(RefusedError); errors.As(err, &refused) {
				return d.end(ctx, Result{Ended: EndedStopped, Why: refused.Why, Changed: refused.Changed}, nil)
			}
			break
		}
		if err = d.begin(ctx, begun); err == nil {
			result, err = d.steps(ctx)
		}
	}
	return d.end(ctx, result, err)
}

// open reads the journal and what it says about where the run stands.
func (d *driver) open(ctx context.Context) (err error) {
	if d.journal, err = journal.Open(ctx, d.Store, runKey(d.cluster, d.id, "journal")); err != nil {
		return err
	}
	if d.at, err = where(d.Plan, d.journal.Entries()); err != nil {
		return fmt.Errorf("journal of run %s: %w", d.id, err)
	}
	return nil
}

// nothingLeft answers a run that has nothing to do.
func (d *driver) nothingLeft() (Result, bool) {
	over := d.at.over()
	switch {
	case d.Direction == report.Forward && over == EndedDone:
		return Result{Ended: EndedNothing, Why: "the plan has been carried out"}, true
	case d.Direction == report.Forward && len(d.Plan.Steps) == 0:
		return Result{Ended: EndedNothing, Why: "the plan has no steps"}, true
	case d.Direction == report.Abort && (over == EndedAborted || over == EndedReturned):
		return Result{Ended: EndedNothing, Why: "the run is over: " + over}, true
	case d.Direction == report.Back && d.at.leg.Number > 0 && d.at.reached <= d.To && !d.at.begun && d.at.arrived():
		return Result{Ended: EndedNothing, Why: fmt.Sprintf("the cluster is where it was after step %d", d.at.reached)}, true
	}
	return Result{}, false
}

// settle decides on the leg to go along: the one that is under way, or a new one.
func (d *driver) settle(ctx context.Context, to report.Direction, after int) (report.Begun, error) {
	b := report.Begun{
		Plan: d.Plan.ID, Program: d.Program, Unmeasured: d.Unmeasured,
		Leg: d.at.leg.Number, Direction: d.at.leg.Direction, After: d.at.leg.After, Steps: d.at.leg.Steps,
	}
	if b.Direction == report.Forward {
		b.Steps = nil
	}
	if b.Leg > 0 && b.Direction == to && !d.at.arrived() && (to != report.Back || b.After == after) {
		return b, nil
	}
	if err := d.may(to); err != nil {
		return b, err
	}
	if err := d.look(ctx); err != nil {
		return b, err
	}
	b.Leg, b.Direction, b.After, b.Steps = b.Leg+1, to, 0, nil
	var err error
	switch to {
	case report.Forward:
		b.After = d.at.reached
		if changed := plan.Changed(d.at.facts, d.world.Facts); len(changed) > 0 {
			return b, &RefusedError{
				Why: "the cluster changed since the plan was made", Changed: changed,
				Next: "make a new one: " + d.Plan.Problem.Again(d.Called),
			}
		}
		if b.Leg == 1 {
			err = d.first(ctx)
		}
	case report.Back:
		b.After = after
		b.Steps, err = d.wayBack(ctx, after)
	case report.Abort:
		b.Steps, err = d.undoing()
	}
	b.Facts, b.Nodes = d.world.Facts, d.world.Nodes
	return b, err
}

// may refuses a change of direction that makes no sense.
func (d *driver) may(to report.Direction) error {
	leg, over := d.at.leg, d.at.over()
	again := "make a new plan: " + d.Plan.Problem.Again(d.Called)
	switch {
	case to != report.Forward && leg.Number == 0:
		return &RefusedError{Why: "nothing of the plan has been begun"}
	case to != report.Forward:
		return nil
	case over == EndedAborted:
		return &RefusedError{Why: "the run was aborted", Next: again}
	case over == EndedReturned:
		return &RefusedError{Why: "the run was rolled back", Next: again}
	case leg.Direction == report.Back && !d.at.arrived():
		return &RefusedError{Why: fmt.Sprintf("a way back to after step %d is under way", leg.After), Next: fmt.Sprintf("go on with it: muster reconcile rollback %s --to %d --yes", d.Called, leg.After)}
	case leg.Direction == report.Abort:
		return &RefusedError{Why: "an abort is under way", Next: "go on with it: muster reconcile abort " + d.Called + " --yes"}
	}
	return nil
}

// first begins a plan: no other may be under way, and the plan is kept beside
// its journal.
func (d *driver) first(ctx context.Context) error {
	other, err := Current(ctx, d.Store, d.cluster)
	if err != nil && !errors.Is(err, ErrNoRun) {
		return err
	}
	if err == nil && underWay(other) == 1 {
		return &RefusedError{
			Why:  fmt.Sprintf("another plan is under way: run %s, %s -> %s", other.ID, other.Plan.Problem.From, other.Plan.Problem.To),
			Next: fmt.Sprintf("see muster reconcile status %s; finish it, roll it back, or abort it", d.Called),
		}
	}
	data, err := d.Plan.JSON()
	if err != nil {
		return err
	}
	_, err = d.Store.Put(ctx, runKey(d.cluster, d.id, "plan.json"), data, store.Absent)
	if errors.Is(err, store.ErrConflict) {
		return nil // its name is its digest; a run before died here
	}
	return err
}

// states are what the cluster may be in, completed from memory.
func (d *driver) states() ([]plan.State, error) {
	return d.Plan.Problem.Recall(d.at.carried, d.at.half(), d.world.States)
}

func (d *driver) wayBack(ctx context.Context, to int) ([]plan.Planned, error) {
	states, err := d.states()
	if err != nil {
		return nil, err
	}
	way, err := d.Plan.Return(ctx, states, d.at.reached, to)
	if err != nil {
		return nil, &RefusedError{Why: err.Error(), Next: "see how far back the plan goes: muster plan --explain"}
	}
	return way.Steps, nil
}

// undoing are the steps that take down what is up, newest first. It refuses if
// anything still needs one of them.
func (d *driver) undoing() ([]plan.Planned, error) {
	states, err := d.states()
	if err != nil {
		return nil, err
	}
	var steps []plan.Planned
	for _, b := range slices.Backward(d.at.up) {
		needs, err := d.Plan.Problem.Needs(b.Undo, states)
		if err != nil {
			return nil, err
		}
		for _, n := range needs {
			if n.Holds != yes {
				return nil, &RefusedError{
					Why:  fmt.Sprintf("step %d (%s) cannot be taken back now: whether %q holds: %s", b.Number, b.Title, n.Says, n.Holds),
					Next: fmt.Sprintf("roll back (muster reconcile rollback %s) or go on; the bridge stays up until then", d.Called),
				}
			}
		}
		steps = append(steps, plan.Planned{
			Number: len(steps) + 1, ID: b.Undo, Title: "take back: " + b.Title, Why: "the run is aborted",
			Gates: []string{}, Effects: []string{}, Meanwhile: []string{}, How: b.How,
		})
	}
	return steps, nil
}

// begin journals that a leg begins or is gone on with, and settles on it.
func (d *driver) begin(ctx context.Context, b report.Begun) error {
	if b.Leg == d.at.leg.Number {
		b.Facts, b.Nodes = nil, nil // those of its beginning hold
	}
	if err := d.write(journal.Entry{Kind: journal.Begun}, b); err != nil {
		return err
	}
	d.Progress.Started(d.at.leg)
	if b.Direction == report.Abort {
		return Steer(ctx, d.Store, d.cluster, d.id, func(c *Control) { c.Abort = nil })
	}
	return nil
}

// write appends an entry and moves the position on. Nothing is written without
// the lock; a writer that finds another one has lost it.
func (d *driver) write(e journal.Entry, detail any) error {
	if err := context.Cause(d.alive); err != nil {
		return err
	}
	if detail != nil {
		data, err := json.Marshal(detail)
		if err != nil {
			return fmt.Errorf("journal %s of step %s: %w", e.Kind, e.Step, err)
		}
		e.Detail = data
	}
	ctx, cancel := context.WithTimeout(d.alive, tidyLimit)
	defer cancel()
	written, err := d.journal.Append(ctx, d.writer, e)
	if errors.Is(err, journal.ErrFenced) {
		d.lose(fmt.Errorf("%w: %w", lock.ErrLost, err))
	}
	if err != nil {
		return err
	}
	return d.at.take(d.Plan, written)
}

// end journals how the run ended.
func (d *driver) end(ctx context.Context, r Result, err error) (Result, error) {
	if context.Cause(d.alive) != nil {
		return r, context.Cause(d.alive)
	}
	if next, ok := d.next(); ok {
		r.Step = fmt.Sprintf("%d of %d, %s", next.Number, len(d.at.leg.Steps), next.Title)
	}
	r.Reached = d.at.reached
	e := report.Ended{Why: r.Why, Availability: d.meter.Take()}
	if len(r.Changed) > 0 {
		e.Why += ": " + strings.Join(r.Changed, "; ")
	}
	switch {
	case ctx.Err() != nil:
		r.Ended, err = EndedInterrupted, ctx.Err()
		e.Why = "interrupted"
	case err != nil:
		// The store may be what failed; whether this is written decides nothing.
		r.Ended, e.Why = EndedStopped, err.Error()
	}
	return r, errors.Join(err, d.write(journal.Entry{Kind: journal.Ended, Result: r.Ended}, e))
}

// next is the step that comes next on the leg.
func (d *driver) next() (plan.Planned, bool) {
	if d.at.leg.Done >= len(d.at.leg.Steps) {
		return plan.Planned{}, false
	}
	return d.at.leg.Steps[d.at.leg.Done], true
}

// look looks at the world; a few times, since APIs flap.
func (d *driver) look(ctx context.Context) error {
	w, err := again(ctx, d.Executor.Look)
	if err != nil {
		return fmt.Errorf("look at %s: %w", d.cluster, err)
	}
	d.world = w
	d.Progress.Looked(w)
	return nil
}

// attempts and attemptPause are for questions that change nothing.
const (
	attempts     = 5
	attemptPause = 5 * time.Second
)

// again asks a question a few times.
func again[T any](ctx context.Context, ask func(context.Context) (T, error)) (answer T, err error) {
	for n := range attempts {
		if n > 0 && !pause(ctx, attemptPause) {
			return answer, ctx.Err()
		}
		asking, cancel := context.WithTimeout(ctx, tidyLimit)
		answer, err = ask(asking)
		cancel()
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
	}
	return answer, err
}
