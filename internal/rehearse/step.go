package rehearse

import (
	"context"
	"time"

	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// pollInterval is the pause between two checks of a gate.
const pollInterval = 100 * time.Millisecond

// An action changes one thing; its gates decide whether that worked.
type action struct {
	node  string // "" for the cluster as a whole
	what  string
	do    func(context.Context) error // nil for an action that only checks
	gates []reconcile.Gate

	moves  bool // moves a worker to its new path: when to inject a fault
	canary bool // the first of its group
}

// A step is a sequence of actions that belong together.
type step struct {
	title   string
	why     string
	actions []action
}

// actionTimeout bounds one action, gates excluded.
const actionTimeout = 60 * time.Second

// perform carries out an action and waits for its gates. ok is false if it or a gate
// failed; later gates are then not checked.
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
		result := g.Await(ctx)
		r.Gates = append(r.Gates, result)
		if result.Verdict != report.Pass {
			return r, false
		}
	}
	return r, true
}
