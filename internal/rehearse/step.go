package rehearse

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/report"
)

// A gate is a condition that must hold before anything goes on. It is asked
// again and again until it passes or its time is up, and then counts as what it
// last was: fail or unknown, which both stop. Behind a failure a look that could
// not be taken, as the last one is that the gate's time cuts short, is no news:
// the gate still counts as failed, and says both.
type gate struct {
	name   string
	within time.Duration
	check  func(context.Context) (report.Verdict, string)
}

// askEvery is the pause between two looks at a gate.
const askEvery = 100 * time.Millisecond

// await asks until the gate passes or its time is up.
func (g gate) await(ctx context.Context) report.Gate {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	failure := "" // the last reason that was an answer
	for {
		verdict, reason := g.check(ctx)
		switch {
		case verdict == report.Fail:
			failure = reason
		case verdict == report.Unknown && failure != "":
			verdict, reason = report.Fail, fmt.Sprintf("%s; the last look could not be taken: %s", failure, reason)
		}
		result := report.Gate{Name: g.name, Verdict: verdict, Reason: reason, Took: time.Since(began)}
		if verdict == report.Pass {
			return result
		}
		select {
		case <-ctx.Done():
			result.Reason = fmt.Sprintf("%s (after %v)", reason, time.Since(began).Round(time.Second))
			return result
		case <-time.After(askEvery):
		}
	}
}

// An action changes one thing, and has gates that say whether it worked.
type action struct {
	node  string // "" for the cluster as a whole
	what  string
	do    func(context.Context) error // nil for actions that only look
	gates []gate

	moves  bool // puts the new way beside the old one: the moment for a fault
	canary bool // the first of its group
}

// A step is a numbered group of actions that belong together.
type step struct {
	title   string
	why     string
	actions []action
}

// actionTimeout bounds one action, gates excluded.
const actionTimeout = 60 * time.Second

// perform carries an action out and waits for its gates. ok is false if it or
// any gate did not come out well; gates behind that one are not asked.
func (a action) perform(ctx context.Context) (r report.Action, ok bool) {
	began := time.Now()
	defer func() { r.Took = time.Since(began) }()
	r = report.Action{Node: a.node, What: a.what, Gates: []report.Gate{}}
	if a.do != nil {
		doCtx, cancel := context.WithTimeout(ctx, actionTimeout)
		err := a.do(doCtx)
		cancel()
		if err != nil {
			r.Error = err.Error()
			return r, false
		}
	}
	for _, g := range a.gates {
		result := g.await(ctx)
		r.Gates = append(r.Gates, result)
		if result.Verdict != report.Pass {
			return r, false
		}
	}
	return r, true
}
