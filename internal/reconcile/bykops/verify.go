package bykops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
)

var _ reconcile.Verifier = (*Executor)(nil)

// Verify implements [reconcile.Verifier]. The actions keep their Abort.
func (e *Executor) Verify(ctx context.Context, s plan.Planned, begun []reconcile.UnverifiedAction) (all []reconcile.Action, err error) {
	seen, bridged, err := e.observe(ctx)
	if err != nil {
		return nil, err
	}
	w := world{Cluster: seen, bridged: bridged, begun: true}
	for _, b := range begun {
		a, err := e.rebuild(ctx, w, s, b)
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", s.ID, err)
		}
		if a == nil {
			continue
		}
		a.Do = nil
		all = append(all, *a)
	}
	return all, nil
}

// rebuild returns an action as it was before it was done; nil for one that was undone
// meanwhile, which Actions returns again.
func (e *Executor) rebuild(ctx context.Context, w world, s plan.Planned, b reconcile.UnverifiedAction) (*reconcile.Action, error) {
	kind, id, _ := strings.Cut(b.ID, "/")
	g, _ := w.group(b.Group)
	at := slices.IndexFunc(g.Instances, func(i cloud.Instance) bool { return i.ID == id })
	var a reconcile.Action
	switch kind {
	case "join":
		if !slices.ContainsFunc(g.Living(), func(i cloud.Instance) bool { return !isOutdated(i) }) {
			return nil, nil
		}
		a = e.startCanary(g, cloud.Instance{ID: id}, rollout{back: s.Back})
	case "replace":
		if at >= 0 && !isOutdated(g.Instances[at]) {
			return nil, nil // its template version is current again
		}
		if s.ID == "roll-control-plane" {
			a = e.controlPlaneReplacement(g, cloud.Instance{ID: id}, rollout{})
			break
		}
		p, err := rolloutOf(w.Manifest, g.Name, g.Desired)
		if err != nil {
			return nil, err
		}
		p.back = s.Back
		a = e.replaceWorker(g, cloud.Instance{ID: id}, p)
	case "roll":
		a = e.rollGroup(g, s.Back)
	case "by-hand":
		a = e.manualReplacement(g, "")
	case "classic":
		a = e.deleteClassic(id)
	default:
		laid, err := e.steps()[s.ID](ctx, w, s)
		if err != nil {
			return nil, err
		}
		n := slices.IndexFunc(laid, func(a reconcile.Action) bool { return a.ID == b.ID })
		if n < 0 {
			return nil, fmt.Errorf("action %s was begun by another muster", b.ID)
		}
		a = laid[n]
	}
	a.What = b.What
	return &a, nil
}
