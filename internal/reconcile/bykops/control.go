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

// memberWithin is how long a new control-plane node may take until its etcd
// member, its API server and the load balancer agree that it works. It moves
// volumes, which workers do not.
const memberWithin = 15 * time.Minute

// rollControlPlane lays out the replacement of control-plane nodes, one at a
// time. etcd has no member to spare, so none is started beside.
func (e *Executor) rollControlPlane(ctx context.Context, w world, s plan.Planned) (all []reconcile.Action, err error) {
	if e.Machines == nil {
		return e.rollByKops(ctx, w, s)
	}
	if s.Back {
		if expected, err := e.notRestored(w, cluster.RoleControlPlane); err != nil {
			return expected, err
		}
	}
	for _, g := range w.groups(cluster.RoleControlPlane) {
		for _, i := range old(g) {
			all = append(all, e.replaceMember(g, i, pace{back: s.Back}))
		}
	}
	return all, nil
}

func (e *Executor) replaceMember(g cloud.Group, i cloud.Instance, p pace) reconcile.Action {
	return reconcile.Action{
		ID: "replace/" + i.ID, Group: g.Name, Node: i.ID, Replaces: 1,
		What:  fmt.Sprintf("replace control-plane node %s of %s", i.ID, g.Name) + p.because(g, i),
		Limit: e.DrainWithin + memberWithin + 10*time.Minute,
		Do: func(ctx context.Context, say func(string)) error {
			return e.member(ctx, g.Name, i.ID, say)
		},
		Gates: []reconcile.Gate{e.verdict("the control plane is whole", memberWithin, func(ctx context.Context, w world) (report.Verdict, string) {
			if g, _ := w.group(g.Name); slices.ContainsFunc(g.Living(), func(have cloud.Instance) bool { return have.ID == i.ID }) {
				return report.Fail, i.ID + " is still there"
			}
			return e.controlPlane(ctx, w, "")
		})},
		Abort: func(ctx context.Context) (string, error) { return e.keepMember(ctx, g.Name, i.ID) },
	}
}

// member replaces one control-plane node, from wherever a run before left it:
// the load balancer stops sending to it, it is drained, and only while every
// other one works it is ended.
func (e *Executor) member(ctx context.Context, group, id string, say func(string)) error {
	seen, _, err := e.see(ctx)
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
	if v, why := e.controlPlane(ctx, w, id); v != report.Pass {
		return fmt.Errorf("the other control-plane nodes do not all work, so %s stays: %s", id, why)
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
	say("ending " + id)
	return e.Machines.Terminate(ctx, id)
}

func (w world) size(role cluster.Role) (n int) {
	for _, g := range w.groups(role) {
		n += len(g.Living())
	}
	return n
}

// keepMember takes back what was done to a control-plane node that is still
// there.
func (e *Executor) keepMember(ctx context.Context, group, id string) (evidence string, err error) {
	seen, _, err := e.see(ctx)
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
	return e.evidence(ctx, w, g, stranded(members)), nil
}

// controlPlane judges all control-plane nodes but one, if that is named: each is
// a Ready node, its own parts run, the load balancer sends to it, and the API
// says that its etcd has a leader.
func (e *Executor) controlPlane(ctx context.Context, w world, but string) (report.Verdict, string) {
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
			why, err := e.partsRun(ctx, m)
			if err != nil {
				return report.Unknown, err.Error()
			}
			if why == "" {
				why = balanced(w, m.ID)
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

// parts are the static pods that every control-plane node of kOps runs.
var parts = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd-manager-main", "etcd-manager-events"}

// partsRun says what of a control-plane node does not run; empty if all does.
func (e *Executor) partsRun(ctx context.Context, m member) (string, error) {
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
	for _, part := range parts {
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

// balanced says where a load balancer does not send to a node; empty if each
// that has a listener does. A classic one from which kOps has taken the targets is
// none to wait for.
func balanced(w world, id string) string {
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
