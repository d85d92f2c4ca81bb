package bykops

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// boolGate is a gate on an observation, which is unknown if observing fails.
func (e *Executor) boolGate(name string, within time.Duration, check func(world) (ok bool, reason string)) reconcile.Gate {
	return e.verdictGate(name, within, func(_ context.Context, w world) (report.Verdict, string) {
		ok, reason := check(w)
		if ok {
			return report.Pass, reason
		}
		return report.Fail, reason
	})
}

// verdictGate is [Executor.boolGate] for a check that may itself be unknown.
func (e *Executor) verdictGate(name string, within time.Duration, check func(context.Context, world) (report.Verdict, string)) reconcile.Gate {
	return reconcile.Gate{Name: name, Within: within, Every: e.Poll, Check: func(ctx context.Context) (report.Verdict, string) {
		seen, bridged, err := e.observe(ctx)
		if err != nil {
			return report.Unknown, err.Error()
		}
		return check(ctx, world{Cluster: seen, bridged: bridged})
	}}
}

// personAction is an action that only a person can do, with a gate that passes once
// they have.
func (e *Executor) personAction(id, what string, check func(world) (bool, string)) reconcile.Action {
	return reconcile.Action{ID: id, What: what, Person: true, Gates: []reconcile.Gate{e.boolGate(what, 0, check)}}
}

// inAllStates evaluates a condition in every state that the cluster may be in: true in
// all is a pass, false in all a fail, anything else unknown.
func (e *Executor) inAllStates(w world, ask func(plan.State) bool) (report.Verdict, string) {
	p, _, err := w.Problem(e.ask())
	if err != nil {
		return report.Unknown, err.Error()
	}
	yes := 0
	for _, s := range p.Starts {
		if ask(s.State) {
			yes++
		}
	}
	switch yes {
	case len(p.Starts):
		return report.Pass, fmt.Sprintf("in each of %d possible states", len(p.Starts))
	case 0:
		return report.Fail, fmt.Sprintf("in none of %d possible states", len(p.Starts))
	}
	return report.Unknown, fmt.Sprintf("in %d of %d possible states: %s", yes, len(p.Starts), assumed(p))
}

// assumed names an unobserved fact that keeps a verdict unknown.
func assumed(p plan.Problem) string {
	for _, s := range p.Starts {
		if len(s.Assumes) > 0 {
			return "not seen whether " + s.Assumes[0]
		}
	}
	return "not seen"
}

// allReplaced reports whether no instance of the old generation is left, a condition
// for every irreversible change.
func (w world) allReplaced() (ok bool, left string) {
	for _, role := range []cluster.Role{cluster.RoleNode, cluster.RoleControlPlane} {
		for _, g := range w.groups(role) {
			for _, i := range g.Living() {
				if isOutdated(i) {
					return false, fmt.Sprintf("%s of %s is of generation %s", i.ID, g.Name, i.Generation)
				}
			}
		}
	}
	return true, ""
}
