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

// checkControl applies people's requests before a step and before each action. It
// ends the leg for an abort, and ends the run or waits for a pause or an unreleased
// hold. A zero Result means continue.
func (d *driver) checkControl(ctx context.Context, s plan.Planned) (Result, error) {
	waiting := "" // the reason last reported
	for {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		c, err := retry(ctx, func(ctx context.Context) (Control, error) { return readControl(ctx, d.Store, d.cluster, d.id) })
		if err != nil {
			return d.stopBlind(ctx, err)
		}
		if c.Abort != nil && d.at.leg.Direction != report.Abort {
			return Result{Ended: abortRequested}, d.writeNote(s, "abort", "abort asked for "+c.Abort.String())
		}
		ended, why, how := d.waitReason(c, s)
		switch {
		case ended == "" && waiting == "":
			return Result{}, nil
		case ended == "":
			return Result{}, d.writeNote(s, "on", d.resumedBy(c, s))
		case why != waiting:
			if d.Wait {
				d.Progress.Waiting(why, how)
			}
			if err := d.writeNote(s, ended, why); err != nil {
				return Result{}, err
			}
			waiting = why
		}
		if !d.Wait {
			return Result{Ended: ended, Why: why + "; " + how}, nil
		}
		sleep(ctx, d.Poll)
	}
}

// waitReason returns what the run must wait for and how a person lifts it; empty if
// it may continue.
func (d *driver) waitReason(c Control, s plan.Planned) (ended, why, how string) {
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

// resumedBy describes what ended a wait.
func (d *driver) resumedBy(c Control, s plan.Planned) string {
	if r, ok := c.released(d.at.leg.Number, report.StepKey(s)); ok && s.Hold && !d.at.begun {
		return "hold released " + r.String()
	}
	return "resumed"
}

// writeNote journals a person's request.
func (d *driver) writeNote(s plan.Planned, result, what string) error {
	return d.write(journal.Entry{Kind: journal.Note, Step: report.StepKey(s), Result: result}, report.NoteDetail{What: what})
}

// awaitPerson reports that an action is a person's to do and, with Config.Wait,
// waits until its gates pass, if they can. A zero Result means that they did.
func (d *driver) awaitPerson(ctx context.Context, s plan.Planned, a Action, missing string) (Result, error) {
	verdict := report.Fail
	if a.Confirm != "" {
		verdict = report.Unknown
	}
	_, reason, _ := strings.Cut(missing, fmt.Sprintf(": %s: ", verdict))
	turn := Result{Ended: EndedHolding, Why: fmt.Sprintf("your turn: %s: %s", a.What, cmp.Or(reason, missing)), Confirm: a.Confirm}
	if !d.Wait || a.Confirm != "" {
		return turn, nil
	}
	d.Progress.Waiting(turn.Why, "it goes on by itself once that is done")
	for sleep(ctx, d.Poll) {
		if result, err := d.checkControl(ctx, s); result.Ended != "" || err != nil {
			return result, err
		}
		if allPass(ctx, a.Gates) {
			return Result{}, nil
		}
	}
	return Result{}, context.Cause(ctx)
}

// allPass checks each gate once.
func allPass(ctx context.Context, gates []Gate) bool {
	return !slices.ContainsFunc(gates, func(g Gate) bool {
		g.Within = 0
		return g.Await(ctx).Verdict != report.Pass
	})
}
