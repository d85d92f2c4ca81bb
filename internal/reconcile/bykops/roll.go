package bykops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// perGroup calls layOut for each group that has outdated workers, unless a person has
// to replace them or kops rolls whole groups.
func (e *Executor) perGroup(ctx context.Context, w world, s plan.Planned, layOut func(g cloud.Group, p rollout, left []cloud.Instance) ([]reconcile.Action, error)) (all []reconcile.Action, err error) {
	if e.Machines == nil {
		return e.rollByKops(ctx, w, s)
	}
	if s.Back {
		if expected, err := e.requireRestored(w, cluster.RoleNode); err != nil {
			return expected, err
		}
	}
	for _, g := range w.groups(cluster.RoleNode) {
		p, err := rolloutOf(w.Manifest, g.Name, g.Desired)
		if err != nil {
			return nil, err
		}
		p.back = s.Back
		left := outdated(g)
		if len(left) == 0 {
			continue
		}
		if why := p.manualReason(g); why != "" {
			all = append(all, e.manualReplacement(g, why))
			continue
		}
		actions, err := layOut(g, p, left)
		if err != nil {
			return nil, err
		}
		all = append(all, actions...)
	}
	return all, nil
}

// canary returns, per group, one new node beside the old ones and then the
// replacement of the old node that it surges for.
func (e *Executor) canary(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	return e.perGroup(ctx, w, s, func(g cloud.Group, p rollout, left []cloud.Instance) ([]reconcile.Action, error) {
		members, err := e.members(ctx, g)
		if err != nil && !errors.Is(err, errNoKube) { // a dry run may do without
			return nil, err
		}
		proven := false
		for _, m := range members {
			proven = proven || !isOutdated(m.Instance) && m.ready()
		}
		switch {
		case !proven:
			return []reconcile.Action{e.startCanary(g, left[0], p), e.replaceWorker(g, left[0], p)}, nil
		case left[0].Detached:
			return []reconcile.Action{e.replaceWorker(g, left[0], p)}, nil
		}
		return nil, nil
	})
}

// manualReason says why a person has to replace a group's nodes; empty if nobody
// has to.
func (p rollout) manualReason(g cloud.Group) string {
	switch {
	case p.manual:
		return "rollingUpdate.drainAndTerminate is false"
	case g.ID == "":
		return "no Auto Scaling group starts its nodes"
	}
	return ""
}

func (e *Executor) manualReplacement(g cloud.Group, why string) reconcile.Action {
	return e.personAction("by-hand/"+g.Name, fmt.Sprintf("%s of %s: replace its nodes yourself, then run again", why, g.Name), func(w world) (bool, string) {
		g, _ := w.group(g.Name)
		return len(outdated(g)) == 0, fmt.Sprintf("%d nodes of the old generation", len(outdated(g)))
	})
}

// startCanary starts one new instance from the current template. The old instance only
// loses its place in the group and keeps serving.
func (e *Executor) startCanary(g cloud.Group, i cloud.Instance, p rollout) reconcile.Action {
	return reconcile.Action{
		ID: "join/" + i.ID, Group: g.Name, Node: i.ID, Canary: true,
		What: fmt.Sprintf("start one instance of %s from its new template, beside %s", g.Name, i.ID),
		Do: func(ctx context.Context, say func(string)) error {
			if err := e.Machines.Detach(ctx, i.ID); err != nil {
				return err
			}
			say(fmt.Sprintf("%s left its group and goes on; %s starts another in its place", i.ID, g.ID))
			return nil
		},
		Gates: []reconcile.Gate{e.verdictGate("joined by the new path", e.JoinWithin, func(ctx context.Context, w world) (report.Verdict, string) {
			return e.joined(ctx, w, g.Name, 1, p.back)
		})},
		Abort: func(ctx context.Context) (string, error) { return e.undoSurge(ctx, g.Name, i.ID, p.back) },
	}
}

func nodeName(m member) string {
	if m.node != nil {
		return m.node.Name
	}
	return m.ID
}

// rollWorkers returns the replacement of every outdated worker. It is called again
// after each, so that one started meanwhile from an old template is replaced too.
func (e *Executor) rollWorkers(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	return e.perGroup(ctx, w, s, func(g cloud.Group, p rollout, left []cloud.Instance) (all []reconcile.Action, err error) {
		if left, err = e.unregisteredFirst(ctx, g, left); err != nil {
			return nil, err
		}
		for _, i := range left {
			all = append(all, e.replaceWorker(g, i, p))
		}
		return all, nil
	})
}

// unregisteredFirst sorts instances without a node first: replacing them loses nothing,
// and a group that waits for them to register may wait forever.
func (e *Executor) unregisteredFirst(ctx context.Context, g cloud.Group, left []cloud.Instance) ([]cloud.Instance, error) {
	members, err := e.members(ctx, g)
	if errors.Is(err, errNoKube) { // a dry run may do without
		return left, nil
	}
	if err != nil {
		return nil, err
	}
	unregistered := func(i cloud.Instance) bool {
		return slices.ContainsFunc(members, func(m member) bool { return m.ID == i.ID && m.node == nil })
	}
	var first, then []cloud.Instance
	for _, i := range left {
		if unregistered(i) {
			first = append(first, i)
		} else {
			then = append(then, i)
		}
	}
	return append(first, then...), nil
}

// replaceWorker replaces one worker.
func (e *Executor) replaceWorker(g cloud.Group, i cloud.Instance, p rollout) reconcile.Action {
	return reconcile.Action{
		ID: "replace/" + i.ID, Group: g.Name, Node: i.ID, Replaces: 1,
		What:  fmt.Sprintf("replace %s of %s", i.ID, g.Name) + p.replaceReason(g, i),
		Limit: e.JoinWithin + e.DrainWithin + 2*time.Minute,
		Do:    func(ctx context.Context, say func(string)) error { return e.replace(ctx, g.Name, i.ID, p, say) },
		Gates: []reconcile.Gate{e.verdictGate("the group is whole", e.JoinWithin, func(ctx context.Context, w world) (report.Verdict, string) {
			return e.groupComplete(ctx, w, g.Name, i.ID, p)
		})},
		Abort: func(ctx context.Context) (string, error) { return e.undoSurge(ctx, g.Name, i.ID, p.back) },
	}
}

// replace replaces one worker, resuming where an earlier run left off: it surges, and
// once enough other nodes are Ready it drains and terminates the worker.
func (e *Executor) replace(ctx context.Context, group, id string, p rollout, say func(string)) error {
	m, err := e.startSurge(ctx, group, id, p, say)
	if err != nil || m == nil {
		return err
	}
	joining, cancel := context.WithTimeout(ctx, e.JoinWithin)
	defer cancel()
	reported := ""
	err = e.wait(joining, fmt.Sprintf("wait until %s can do without %s", group, id), func(ctx context.Context) (string, error) {
		pending, err := e.sparePending(ctx, group, id, p)
		if pending != reported && pending != "" {
			say(pending)
			reported = pending
		}
		return pending, err
	})
	if err != nil {
		return err
	}
	if err := e.drain(ctx, nodeName(*m), say); err != nil {
		return err
	}
	return e.end(ctx, group, id, p, say)
}

// groupComplete judges a group after a termination: the instance is gone, and enough
// nodes are Ready.
func (e *Executor) groupComplete(ctx context.Context, w world, group, gone string, p rollout) (report.Verdict, string) {
	g, ok := w.group(group)
	if !ok {
		return report.Unknown, "the group was not observed"
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return report.Unknown, err.Error()
	}
	ready := 0
	for _, m := range members {
		if m.ID == gone {
			return report.Fail, gone + " is still there"
		}
		if m.ready() {
			ready++
		}
	}
	if need := g.Desired - p.unavailable; ready < need {
		return report.Fail, fmt.Sprintf("%d of %d nodes are Ready", ready, need)
	}
	return e.joined(ctx, w, group, 1, p.back)
}

// rollByKops returns the replacement of whole groups by kOps, on clouds where this
// package cannot replace single instances.
func (e *Executor) rollByKops(_ context.Context, w world, s plan.Planned) (all []reconcile.Action, err error) {
	role := cluster.RoleNode
	if s.ID == "roll-control-plane" {
		role = cluster.RoleControlPlane
	}
	for _, g := range w.groups(role) {
		if len(outdated(g)) > 0 {
			all = append(all, e.rollGroup(g, s.Back))
		}
	}
	return all, nil
}

func (e *Executor) rollGroup(g cloud.Group, back bool) reconcile.Action {
	args := []string{"rolling-update", "cluster", "--name", e.Problem.Cluster, "--instance-group", g.Name, "--yes"}
	return reconcile.Action{
		ID: "roll/" + g.Name, Group: g.Name, What: "kOps replaces " + g.Name, Limit: 6 * time.Hour,
		Do: func(ctx context.Context, say func(string)) error { return e.kops(ctx, args, say) },
		Gates: []reconcile.Gate{e.verdictGate("one generation", e.JoinWithin, func(ctx context.Context, w world) (report.Verdict, string) {
			g, ok := w.group(g.Name)
			if !ok {
				return report.Unknown, "the group was not observed"
			}
			if left := outdated(g); len(left) > 0 {
				return report.Fail, left[0].ID + " is of generation " + string(left[0].Generation)
			}
			return e.joined(ctx, w, g.Name, g.Desired, back)
		})},
	}
}
