package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// heed does what people said, before a step and before each action: it ends the
// leg for an abort, and ends the run, or waits, for a pause and at a hold that
// nobody has released. A zero Result says that the way is free.
func (d *driver) heed(ctx context.Context, s plan.Planned) (Result, error) {
	waiting := "" // what for, so far
	for {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		c, err := again(ctx, func(ctx context.Context) (Control, error) { return readControl(ctx, d.Store, d.cluster, d.id) })
		if err != nil {
			return d.blind(ctx, err)
		}
		if c.Abort != nil && d.at.leg.Direction != report.Abort {
			return Result{Ended: asked}, d.note(s, "abort", "abort asked for "+c.Abort.String())
		}
		ended, why, how := d.waitsFor(c, s)
		switch {
		case ended == "" && waiting == "":
			return Result{}, nil
		case ended == "":
			return Result{}, d.note(s, "on", d.passed(c, s))
		case why != waiting:
			if d.Wait {
				d.Progress.Waiting(why, how)
			}
			if err := d.note(s, ended, why); err != nil {
				return Result{}, err
			}
			waiting = why
		}
		if !d.Wait {
			return Result{Ended: ended, Why: why + "; " + how}, nil
		}
		pause(ctx, d.Poll)
	}
}

// waitsFor says what a run waits for before it may go on, and how a person lets
// it; empty if nothing keeps it.
func (d *driver) waitsFor(c Control, s plan.Planned) (ended, why, how string) {
	_, released := c.released(d.at.leg.Number, report.StepKey(s))
	switch {
	case c.Paused != nil:
		return EndedPaused, "paused " + c.Paused.String(), "resume it with: muster reconcile resume " + d.Called
	case s.Hold && !d.at.begun && !released:
		return EndedHolding, fmt.Sprintf("hold before step %d, %s: %s", s.Number, s.Title, s.Why),
			"release it with: muster reconcile release " + d.Called
	}
	return "", "", ""
}

// passed says what let a run go on that had waited.
func (d *driver) passed(c Control, s plan.Planned) string {
	if r, ok := c.released(d.at.leg.Number, report.StepKey(s)); ok && s.Hold && !d.at.begun {
		return "hold released " + r.String()
	}
	return "resumed"
}

// note journals what a person said.
func (d *driver) note(s plan.Planned, result, what string) error {
	return d.write(journal.Entry{Kind: journal.Note, Step: report.StepKey(s), Result: result}, report.Said{What: what})
}

// attend says whose turn it is where an action is a person's, and waits for them if
// the run waits. A zero Result says that they have done it.
func (d *driver) attend(ctx context.Context, s plan.Planned, a Action, missing string) (Result, error) {
	_, reason, _ := strings.Cut(missing, fmt.Sprintf(": %s: ", report.Fail))
	turn := Result{Ended: EndedHolding, Why: fmt.Sprintf("your turn: %s: %s", a.What, cmp.Or(reason, missing))}
	if !d.Wait {
		return turn, nil
	}
	d.Progress.Waiting(turn.Why, "it goes on by itself once that is done")
	for pause(ctx, d.Poll) {
		if result, err := d.heed(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
		if passes(ctx, a.Gates) {
			return Result{}, nil
		}
	}
	return Result{}, context.Cause(ctx)
}

// passes looks once whether all of some gates pass.
func passes(ctx context.Context, gates []Gate) bool {
	return !slices.ContainsFunc(gates, func(g Gate) bool {
		g.Within = 0
		return g.Await(ctx).Verdict != report.Pass
	})
}
