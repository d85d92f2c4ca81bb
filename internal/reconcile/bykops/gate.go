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

// gate asks the world. What cannot be looked at is unknown.
func (e *Executor) gate(name string, within time.Duration, check func(world) (ok bool, reason string)) reconcile.Gate {
	return e.verdict(name, within, func(_ context.Context, w world) (report.Verdict, string) {
		ok, reason := check(w)
		if ok {
			return report.Pass, reason
		}
		return report.Fail, reason
	})
}

func (e *Executor) verdict(name string, within time.Duration, check func(context.Context, world) (report.Verdict, string)) reconcile.Gate {
	return reconcile.Gate{Name: name, Within: within, Every: e.Poll, Check: func(ctx context.Context) (report.Verdict, string) {
		seen, bridged, err := e.see(ctx)
		if err != nil {
			return report.Unknown, err.Error()
		}
		return check(ctx, world{Cluster: seen, bridged: bridged})
	}}
}

// byHand is an action for what nobody but a person does: a gate that passes once
// it was done.
func (e *Executor) byHand(id, what string, check func(world) (bool, string)) reconcile.Action {
	return reconcile.Action{ID: id, What: what, Person: true, Gates: []reconcile.Gate{e.gate(what, 0, check)}}
}

// states asks a question of all states that the cluster may be in: all yes is a
// pass, all no a fail, and anything else is not known.
func (e *Executor) states(w world, ask func(plan.State) bool) (report.Verdict, string) {
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

// assumed names what keeps a verdict unknown.
func assumed(p plan.Problem) string {
	for _, s := range p.Starts {
		if len(s.Assumes) > 0 {
			return "not seen whether " + s.Assumes[0]
		}
	}
	return "not seen"
}

// allNew reports whether nobody of the old generation is left, which everything
// that cannot be taken back asks first.
func (w world) allNew() (ok bool, left string) {
	for _, role := range []cluster.Role{cluster.RoleNode, cluster.RoleControlPlane} {
		for _, g := range w.groups(role) {
			for _, i := range g.Living() {
				if isOld(i) {
					return false, fmt.Sprintf("%s of %s is of generation %s", i.ID, g.Name, i.Generation)
				}
			}
		}
	}
	return true, ""
}
