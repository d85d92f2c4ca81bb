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

// Verify implements [reconcile.Verifier]: the gates of actions that were done and
// not proven. What can be tidied up after one of them still can.
func (e *Executor) Verify(ctx context.Context, s plan.Planned, begun []reconcile.Begun) (all []reconcile.Action, err error) {
	seen, bridged, err := e.see(ctx)
	if err != nil {
		return nil, err
	}
	w := world{Cluster: seen, bridged: bridged, begun: true}
	for _, b := range begun {
		a, err := e.begun(ctx, w, s, b)
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

// begun is an action as it was laid out before it was done; nil for one that was
// taken back, and is begun anew by what is left.
func (e *Executor) begun(ctx context.Context, w world, s plan.Planned, b reconcile.Begun) (*reconcile.Action, error) {
	kind, id, _ := strings.Cut(b.ID, "/")
	g, _ := w.group(b.Group)
	at := slices.IndexFunc(g.Instances, func(i cloud.Instance) bool { return i.ID == id })
	var a reconcile.Action
	switch kind {
	case "join":
		if !slices.ContainsFunc(g.Living(), func(i cloud.Instance) bool { return !isOld(i) }) {
			return nil, nil
		}
		a = e.beside(g, cloud.Instance{ID: id}, pace{back: s.Back})
	case "replace":
		if at >= 0 && !isOld(g.Instances[at]) {
			return nil, nil // its template is that of now again
		}
		if s.ID == "roll-control-plane" {
			a = e.replaceMember(g, cloud.Instance{ID: id}, pace{})
			break
		}
		p, err := paceOf(w.Manifest, g.Name, g.Desired)
		if err != nil {
			return nil, err
		}
		p.back = s.Back
		a = e.replaceWorker(g, cloud.Instance{ID: id}, p)
	case "roll":
		a = e.rollGroup(g, s.Back)
	case "by-hand":
		a = e.replacedByHand(g, "")
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
