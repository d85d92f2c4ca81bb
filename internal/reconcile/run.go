package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// Run carries out a plan, or resumes where an earlier run of it ended or died. It
// blocks until the plan is done, something stops it, or ctx ends.
//
// A gate that does not pass is reported in the Result, not as an error. Errors are:
// bad input, a [*lock.HeldError], a [*RefusedError], a [*MissingError], an unreachable
// state store, the loss of the lock ([lock.ErrLost], [journal.ErrFenced]), and ctx's
// own. Once the lock is lost nothing more is done, not even cleanup: somebody else
// may hold it.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if err := cfg.validate(); err != nil {
		return Result{}, err
	}
	name := cfg.Plan.Problem.Cluster
	reason := fmt.Sprintf("plan %s, %s -> %s, %s", RunID(cfg.Plan), cfg.Plan.Problem.From, cfg.Plan.Problem.To, cfg.Direction)
	if last, err := lock.Inspect(ctx, cfg.Store, LockKey(name)); err == nil && last.Abandoned(time.Now()) {
		cfg.Progress.Note(fmt.Sprintf("the lock of %s has expired and was not released; seeing for %v whether it is renewed all the same", last.Owner, lock.WatchTime))
	}
	held, err := lock.Acquire(ctx, cfg.Store, LockKey(name), cfg.Owner, reason)
	if err != nil {
		return Result{}, err
	}
	// alive outlives an interruption and ends when the lock is lost. Cleanup and
	// journal writes run under it.
	alive, loseLock := context.WithCancelCause(context.WithoutCancel(ctx))
	defer loseLock(nil)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(alive, func() { cancel(context.Cause(alive)) })
	d := &driver{
		Config: cfg, cluster: name, id: RunID(cfg.Plan), alive: alive, loseLock: loseLock,
		writer: journal.Writer{By: held.Owner(), Token: held.Token()},
	}
	renewing, stopRenewing := context.WithCancel(alive)
	var renewal sync.WaitGroup
	renewal.Go(func() {
		if err := held.Keep(renewing); err != nil {
			loseLock(err)
		}
	})
	result, err := d.run(ctx)
	stopRenewing()
	renewal.Wait()
	if cause := context.Cause(alive); cause != nil {
		return result, cause
	}
	ending, done := context.WithTimeout(alive, cleanupTimeout)
	defer done()
	return result, errors.Join(err, held.Release(ending))
}

// cleanupTimeout bounds each thing done after an interruption or a failure (an
// action's Abort, a journal entry, the release of the lock) and each read attempt.
const cleanupTimeout = 2 * time.Minute

// driver is one run.
type driver struct {
	Config
	cluster, id string
	alive       context.Context // see [Run]
	loseLock    context.CancelCauseFunc
	writer      journal.Writer

	journal   *journal.Journal
	at        position
	world     World // as last observed
	meter     Meter
	tolerance map[string]time.Duration // tolerated gap by vantage point, from the baseline
}

// run chooses a leg and follows it. An abort requested meanwhile is a leg of its own.
func (d *driver) run(ctx context.Context) (Result, error) {
	if err := d.open(ctx); err != nil {
		return Result{}, err
	}
	if result, over := d.nothingLeft(); over {
		return result, nil
	}
	begun, err := d.chooseLeg(ctx, d.Direction, d.To)
	if err != nil {
		return Result{}, err
	}
	if lacking := d.lacks(begun); len(lacking) > 0 {
		return Result{}, &MissingError{lacking}
	}
	if begun, err = d.tidied(ctx, begun, d.Direction, d.To); err != nil {
		return Result{}, err
	}
	if err := d.begin(ctx, begun); err != nil {
		return Result{}, err
	}
	measuring := d.measure(ctx)
	defer measuring.stop()
	if result, err := d.baseline(ctx, measuring); result.Ended != "" || err != nil {
		return d.end(ctx, result, err)
	}
	result, err := d.runLeg(ctx)
	for err == nil && result.Ended == abortRequested {
		if begun, err = d.chooseLeg(ctx, report.Abort, 0); err != nil {
			if refused := new(RefusedError); errors.As(err, &refused) {
				return d.end(ctx, Result{Ended: EndedStopped, Why: refused.Why, Changed: refused.Changed}, nil)
			}
			break
		}
		if begun, err = d.tidied(ctx, begun, report.Abort, 0); err != nil {
			break
		}
		if err = d.begin(ctx, begun); err == nil {
			result, err = d.runLeg(ctx)
		}
	}
	return d.end(ctx, result, err)
}

// open reads the journal and derives the position from it.
func (d *driver) open(ctx context.Context) (err error) {
	if d.journal, err = journal.Open(ctx, d.Store, runKey(d.cluster, d.id, "journal")); err != nil {
		return err
	}
	if d.at, err = replay(d.Plan, d.journal.Entries()); err != nil {
		return fmt.Errorf("journal of run %s: %w", d.id, err)
	}
	return nil
}

// nothingLeft returns the result of a run that has nothing to do; false if it has.
func (d *driver) nothingLeft() (Result, bool) {
	over := d.at.over()
	switch {
	case d.Direction == report.Forward && over == EndedDone:
		return Result{Ended: EndedNothing, Why: "the plan has been carried out"}, true
	case d.Direction == report.Forward && len(d.Plan.Steps) == 0:
		return Result{Ended: EndedNothing, Why: "the plan has no steps"}, true
	case d.Direction == report.Abort && (over == EndedAborted || over == EndedReturned):
		return Result{Ended: EndedNothing, Why: "the run is over: " + over}, true
	case d.Direction == report.Back && d.at.leg.Number > 0 && d.at.reached <= d.To && !d.at.begun && d.at.legDone():
		return Result{Ended: EndedNothing, Why: fmt.Sprintf("the cluster is where it was after step %d", d.at.reached)}, true
	}
	return Result{}, false
}

// begin journals that a leg begins or is resumed.
func (d *driver) begin(ctx context.Context, b report.Begun) error {
	if b.Leg == d.at.leg.Number {
		b.Facts, b.Nodes = nil, nil // those of the leg's first entry apply
	}
	if err := d.write(journal.Entry{Kind: journal.Begun}, b); err != nil {
		return err
	}
	d.Progress.Started(d.at.leg)
	if b.Direction == report.Abort {
		return UpdateControl(ctx, d.Store, d.cluster, d.id, func(c *Control) { c.Abort = nil })
	}
	return nil
}

// write appends an entry and advances the position. Nothing is written without the
// lock; a fenced write means that it is lost.
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
	ctx, cancel := context.WithTimeout(d.alive, cleanupTimeout)
	defer cancel()
	written, err := d.journal.Append(ctx, d.writer, e)
	if errors.Is(err, journal.ErrFenced) {
		d.loseLock(fmt.Errorf("%w: %w", lock.ErrLost, err))
	}
	if err != nil {
		return err
	}
	return d.at.apply(d.Plan, written)
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
		// The store may be what failed; nothing depends on this entry.
		r.Ended, e.Why = EndedStopped, err.Error()
	}
	return r, errors.Join(err, d.write(journal.Entry{Kind: journal.Ended, Result: r.Ended}, e))
}

// next returns the leg's next step; false after the last.
func (d *driver) next() (plan.Planned, bool) {
	if d.at.leg.Done >= len(d.at.leg.Steps) {
		return plan.Planned{}, false
	}
	return d.at.leg.Steps[d.at.leg.Done], true
}

// look observes the cluster, with retries.
func (d *driver) look(ctx context.Context) error {
	w, err := retry(ctx, d.Executor.Look)
	if err != nil {
		return fmt.Errorf("look at %s: %w", d.cluster, err)
	}
	d.world = w
	d.Progress.Looked(w)
	return nil
}

// attempts and retryInterval apply to reads.
const (
	attempts      = 5
	retryInterval = 5 * time.Second
)

// retry repeats a read until it succeeds, at most [attempts] times.
func retry[T any](ctx context.Context, ask func(context.Context) (T, error)) (answer T, err error) {
	for n := range attempts {
		if n > 0 && !sleep(ctx, retryInterval) {
			return answer, ctx.Err()
		}
		asking, cancel := context.WithTimeout(ctx, cleanupTimeout)
		answer, err = ask(asking)
		cancel()
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
	}
	return answer, err
}
