package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/report"
)

// tidied tidies up before a new leg begins, and returns that leg from what is seen
// then.
func (d *driver) tidied(ctx context.Context, b report.Begun, to report.Direction, after int) (report.Begun, error) {
	if b.Leg == d.at.leg.Number {
		return b, nil
	}
	if tidied, err := d.tidyUp(ctx); !tidied || err != nil {
		return b, err
	}
	return d.chooseLeg(ctx, to, after)
}

// tidyUp runs the Abort of each action that the leg in progress has begun and not
// completed, the last one first, and journals it. A process that was killed has not
// done so, and a leg in another direction knows nothing of its actions: a node would
// stay cordoned, or out of the load balancer. tidied reports whether there was any.
func (d *driver) tidyUp(ctx context.Context) (tidied bool, err error) {
	s, ok := d.next()
	if !ok || !d.at.begun || len(d.at.open) == 0 {
		return false, nil
	}
	actions, err := d.halfDoneActions(ctx, s)
	if err != nil {
		return false, err
	}
	for _, e := range slices.Backward(d.at.open) {
		i := slices.IndexFunc(actions, func(a Action) bool { return a.ID == e.Action })
		if i < 0 || actions[i].Abort == nil {
			continue
		}
		a := actions[i]
		d.Progress.Note("tidying up after what was begun and is not gone on with: " + a.What)
		tidying, cancel := context.WithTimeout(ctx, cleanupTimeout)
		evidence, err := a.Abort(tidying)
		cancel()
		if err != nil {
			return tidied, fmt.Errorf("tidy up after %s: %w", a.What, err)
		}
		tidied = true
		e.Kind, e.Result, e.Detail = journal.Outcome, EndedStopped, nil
		if err := d.write(e, report.Outcome{Error: "not gone on with: another direction was taken", Evidence: evidence}); err != nil {
			return tidied, err
		}
	}
	return tidied, nil
}

// halfDoneActions returns a step's actions, those that are left and those that are done
// but unverified. An error counts only where nodes are concerned: what else was begun
// is undone by the steps of the new leg.
func (d *driver) halfDoneActions(ctx context.Context, s plan.Planned) ([]Action, error) {
	actions, err := retry(ctx, func(ctx context.Context) ([]Action, error) { return d.actions(ctx, s) })
	if err == nil || ctx.Err() != nil {
		return actions, err
	}
	for _, e := range d.at.open {
		var i report.Intent
		if err := detail(e, &i); err != nil {
			return nil, err
		}
		if i.Node != "" {
			return nil, fmt.Errorf("see what step %d, %s, has left half done: %w", s.Number, s.ID, err)
		}
	}
	d.Progress.Note("not tidied up after step " + s.ID + ": " + err.Error())
	return nil, nil
}
