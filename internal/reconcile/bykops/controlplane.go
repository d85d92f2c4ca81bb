package bykops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/drain"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// controlPlaneTimeout is how long a new control-plane node may take until its etcd
// members, its API server and its load balancer targets are healthy. Unlike a worker
// it has to attach volumes.
const controlPlaneTimeout = 15 * time.Minute

// rollControlPlane returns the replacement of control-plane nodes, one at a time and
// without surge: their number is that of the etcd members.
func (e *Executor) rollControlPlane(ctx context.Context, w world, s plan.Planned) (all []reconcile.Action, err error) {
	if e.Machines == nil {
		return e.rollByKops(ctx, w, s)
	}
	if s.Back {
		if expected, err := e.requireRestored(w, cluster.RoleControlPlane); err != nil {
			return expected, err
		}
	}
	for _, g := range w.groups(cluster.RoleControlPlane) {
		// One that never joined, such as from a template that was replaced while it
		// booted, keeps all others from being replaced.
		left, err := e.unregisteredFirst(ctx, g, outdated(g))
		if err != nil {
			return nil, err
		}
		for _, i := range left {
			all = append(all, e.controlPlaneReplacement(g, i, rollout{back: s.Back}))
		}
	}
	return all, nil
}

func (e *Executor) controlPlaneReplacement(g cloud.Group, i cloud.Instance, p rollout) reconcile.Action {
	return reconcile.Action{
		ID: "replace/" + i.ID, Group: g.Name, Node: i.ID, Replaces: 1,
		What:  fmt.Sprintf("replace control-plane node %s of %s", i.ID, g.Name) + p.replaceReason(g, i),
		Limit: e.DrainWithin + controlPlaneTimeout + 10*time.Minute + 2*e.JoinWithin,
		Do: func(ctx context.Context, say func(string)) error {
			return e.replaceControlPlane(ctx, g.Name, i.ID, say)
		},
		Gates: []reconcile.Gate{e.verdictGate("the control plane is whole", controlPlaneTimeout, func(ctx context.Context, w world) (report.Verdict, string) {
			if g, _ := w.group(g.Name); slices.ContainsFunc(g.Living(), func(have cloud.Instance) bool { return have.ID == i.ID }) {
				return report.Fail, i.ID + " is still there"
			}
			return e.checkControlPlane(ctx, w, "")
		})},
		Abort: func(ctx context.Context) (string, error) { return e.undoControlPlane(ctx, g.Name, i.ID) },
	}
}

// replaceControlPlane replaces one control-plane node, resuming where an earlier run
// left off: provided that all others work, it deregisters the node from the load
// balancer, drains and terminates it.
func (e *Executor) replaceControlPlane(ctx context.Context, group, id string, say func(string)) error {
	seen, _, err := e.observe(ctx)
	if err != nil {
		return err
	}
	w := world{Cluster: seen}
	g, _ := w.group(group)
	members, err := e.members(ctx, g)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(members, func(m member) bool { return m.ID == id })
	if at < 0 {
		say(id + " is gone; its group has started another")
		return nil
	}
	if err := e.othersWork(ctx, id, say); err != nil {
		return err
	}
	if w.size(cluster.RoleControlPlane) > 1 {
		say("taking " + id + " out of the load balancer")
		leaving, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		if err := e.Machines.Deregister(leaving, id); err != nil {
			return err
		}
	}
	if err := e.drain(ctx, nodeName(members[at]), say); err != nil {
		return err
	}
	// Half an hour may have passed, in which another may have died. This one still
	// counts for the quorum of etcd until it ends.
	if err := e.othersWork(ctx, id, say); err != nil {
		return err
	}
	say("ending " + id)
	return e.Machines.Terminate(ctx, id)
}

// othersWork waits until all control-plane nodes but one work: a run before this one may
// have been killed while one of them was joining.
func (e *Executor) othersWork(ctx context.Context, id string, say func(string)) error {
	waiting, cancel := context.WithTimeout(ctx, e.JoinWithin)
	defer cancel()
	reported := ""
	err := e.wait(waiting, "see whether the other control-plane nodes work", func(ctx context.Context) (string, error) {
		seen, _, err := e.observe(ctx)
		if err != nil {
			return "", err
		}
		v, why := e.checkControlPlane(ctx, world{Cluster: seen}, id)
		if v == report.Pass {
			return "", nil
		}
		if why != reported {
			say(why)
			reported = why
		}
		return why, nil
	})
	if err != nil {
		return fmt.Errorf("%s stays: %w", id, err)
	}
	return nil
}

func (w world) size(role cluster.Role) (n int) {
	for _, g := range w.groups(role) {
		n += len(g.Living())
	}
	return n
}

// undoControlPlane registers and uncordons a control-plane node that still exists.
func (e *Executor) undoControlPlane(ctx context.Context, group, id string) (evidence string, err error) {
	seen, _, err := e.observe(ctx)
	if err != nil {
		return "", err
	}
	w := world{Cluster: seen}
	g, _ := w.group(group)
	members, err := e.members(ctx, g)
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if m.ID == id {
			return "", errors.Join(e.Machines.Register(ctx, id), drain.Uncordon(ctx, e.Kube, nodeName(m)))
		}
	}
	return e.evidence(ctx, w, g, unjoined(members)), nil
}

// checkControlPlane judges all control-plane nodes, except the one named by but, if
// any: each is Ready, its static pods run, the load balancer sends to it, and the API
// server reports that etcd has a leader.
func (e *Executor) checkControlPlane(ctx context.Context, w world, but string) (report.Verdict, string) {
	var missing []string
	n := 0
	for _, g := range w.groups(cluster.RoleControlPlane) {
		members, err := e.members(ctx, g)
		if err != nil {
			return report.Unknown, err.Error()
		}
		if len(members) < g.Desired {
			missing = append(missing, fmt.Sprintf("%s has %d of %d instances", g.Name, len(members), g.Desired))
		}
		for _, m := range members {
			if m.ID == but {
				continue
			}
			n++
			why, err := e.memberProblem(ctx, m)
			if err != nil {
				return report.Unknown, err.Error()
			}
			if why == "" {
				why = targetProblem(w, m.ID)
			}
			if why != "" {
				missing = append(missing, m.ID+": "+why)
			}
		}
	}
	if len(missing) > 0 {
		return report.Fail, strings.Join(missing, "; ")
	}
	if n == 0 {
		return report.Pass, "there is no other"
	}
	if _, err := e.Kube.Discovery().RESTClient().Get().AbsPath("/readyz/etcd").DoRaw(ctx); err != nil {
		return report.Fail, "the API says of etcd: " + oneLine(err.Error())
	}
	return report.Pass, fmt.Sprintf("%d nodes Ready with their API server and etcd members, healthy behind the load balancer", n)
}

// staticPods are the static pods that every control-plane node of kOps runs.
var staticPods = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd-manager-main", "etcd-manager-events"}

// memberProblem says what of a control-plane node does not run; empty if everything
// does.
func (e *Executor) memberProblem(ctx context.Context, m member) (string, error) {
	switch {
	case m.node == nil:
		return "has not registered", nil
	case !isReady(m.node):
		return "is not Ready", nil
	}
	pods, err := drain.Pods(ctx, e.Kube, m.node.Name)
	if err != nil {
		return "", err
	}
	for _, part := range staticPods {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool {
			return p.Namespace == "kube-system" && strings.HasPrefix(p.Name, part+"-") && podReady(p)
		}) {
			return part + " does not run", nil
		}
	}
	return "", nil
}

func podReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// targetProblem says which load balancer listener does not send to a node; empty if
// all do. A classic load balancer that kOps has emptied is ignored if there is another.
func targetProblem(w world, id string) string {
	_, other := w.balancer()
	for _, lb := range w.Cloud.LoadBalancers {
		for _, l := range lb.Listeners {
			if l.Port != 443 && l.Port != 3988 || other && lb.Class == "classic" && l.Targets != nil && len(l.Targets) == 0 {
				continue
			}
			at := slices.IndexFunc(l.Targets, func(t cloud.Target) bool { return t.ID == id })
			switch {
			case at < 0:
				return fmt.Sprintf("not behind port %d of %s", l.Port, lb.Name)
			case l.Targets[at].Health != cloud.TargetHealthy:
				return fmt.Sprintf("%s behind port %d of %s", l.Targets[at].Health, l.Port, lb.Name)
			}
		}
	}
	return ""
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}
