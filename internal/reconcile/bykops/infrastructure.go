package bykops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// gossipPorts are the ports that only gossip uses. 3988 (kops-controller) and the
// etcd ports in this range are not among them.
var gossipPorts = []int{3993, 3998, 3999, 4000}

// makeBalancer returns a wait for a person: a load balancer costs money and changes
// the network, so they create it with kOps themselves.
func (e *Executor) makeBalancer(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	made := func(w world) (bool, string) {
		lb, ok := w.balancer()
		if !ok {
			return false, "there is none; set spec.api.loadBalancer with class Network, then with the kOps that made the cluster: kops update cluster --name " + e.Problem.Cluster + " --create-kube-config=false --yes"
		}
		l, _ := lb.Listener(443)
		want := w.size(cluster.RoleControlPlane)
		return l.Healthy() >= want, fmt.Sprintf("%d of %d control-plane nodes are healthy on port 443 of %s", l.Healthy(), want, lb.Name)
	}
	if ok, _ := made(w); ok && !w.begun {
		return nil, nil
	}
	a := e.personAction("balancer", s.Title, made)
	a.Do = func(ctx context.Context, say func(string)) error { return e.awaitServing(ctx, made, say) }
	return []reconcile.Action{a}, nil
}

// balancerTimeout is how long a new load balancer may take until every target is
// healthy: two minutes to be provisioned, then health checks.
const balancerTimeout = 10 * time.Minute

// awaitServing waits until an existing load balancer serves. The gate afterwards
// reports a missing one, and one that did not serve in time.
func (e *Executor) awaitServing(ctx context.Context, made func(world) (bool, string), say func(string)) error {
	waiting, cancel := context.WithTimeout(ctx, balancerTimeout)
	defer cancel()
	reported := ""
	err := e.wait(waiting, "wait for the load balancer", func(ctx context.Context) (string, error) {
		seen, _, err := e.observe(ctx)
		if err != nil {
			return "", err
		}
		w := world{Cluster: seen}
		ok, pending := made(w)
		if _, there := w.balancer(); ok || !there {
			return "", nil
		}
		if pending != reported {
			say(pending)
			reported = pending
		}
		return pending, nil
	})
	if ctx.Err() != nil {
		return err
	}
	return nil
}

func (e *Executor) expose(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	answers := func(w world) (report.Verdict, string) {
		lb, ok := w.balancer()
		if !ok {
			return report.Fail, "no network load balancer was observed"
		}
		l, ok := lb.Listener(3988)
		if !ok {
			return report.Fail, lb.Name + " has no listener on port 3988"
		}
		if want := w.size(cluster.RoleControlPlane); l.Healthy() < want {
			return report.Fail, fmt.Sprintf("%d of %d control-plane nodes are healthy on port 3988", l.Healthy(), want)
		}
		return report.Pass, fmt.Sprintf("%d healthy targets on port 3988 of %s (%s)", l.Healthy(), lb.Name, l.Check)
	}
	if v, _ := answers(w); v == report.Pass && !w.begun {
		return nil, nil
	}
	lb, ok := w.balancer()
	if !ok {
		return nil, errors.New("no network load balancer was observed")
	}
	if e.Infrastructure == nil {
		return []reconcile.Action{e.personAction("listener", s.Title, func(w world) (bool, string) {
			v, why := answers(w)
			return v == report.Pass, why
		})}, nil
	}
	return []reconcile.Action{{
		ID: "listener", What: s.Title,
		Do: func(ctx context.Context, say func(string)) error {
			say("port 3988 of " + lb.Name + ": target group, listener, and the ways through the security groups, as kOps 1.36 names them")
			return e.Infrastructure.Expose(ctx, lb.ID)
		},
		Gates: []reconcile.Gate{e.verdictGate("the configuration service answers through the load balancer", 5*time.Minute, func(_ context.Context, w world) (report.Verdict, string) { return answers(w) })},
	}}, nil
}

// narrow returns the update that removes the permissions that only gossip needed from
// the workers' role.
func (e *Executor) narrow(ctx context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	narrowed := func(_ context.Context, w world) (report.Verdict, string) {
		return e.inAllStates(w, func(s plan.State) bool { return !s.Lookup })
	}
	if v, _ := narrowed(ctx, w); v == report.Pass && !w.begun {
		return nil, nil
	}
	update := e.update(s)
	return []reconcile.Action{{
		ID: "update", What: s.Title, Limit: updateTimeout,
		Do: func(ctx context.Context, say func(string)) error {
			if err := e.requireAllReplaced(ctx); err != nil {
				return err
			}
			return update(ctx, say)
		},
		Gates: []reconcile.Gate{e.verdictGate("the role allows no look-up any more", time.Minute, narrowed)},
	}}, nil
}

// requireAllReplaced refuses an irreversible change while an old node lives.
func (e *Executor) requireAllReplaced(ctx context.Context) error {
	seen, _, err := e.observe(ctx)
	if err != nil {
		return err
	}
	if ok, left := (world{Cluster: seen}).allReplaced(); !ok {
		return fmt.Errorf("not while a node of before lives: %s", left)
	}
	return nil
}

// reopenedNotice warns that kOps's rules between nodes are the same for every
// topology, so that its next update recreates those removed. No field of the spec
// prevents it.
const reopenedNotice = "kOps's next update opens them again, whatever the topology; nothing listens there then, and nodes need nothing there"

func (e *Executor) closePorts(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	closed := func(w world) (report.Verdict, string) {
		for _, port := range gossipPorts {
			for _, protocol := range []string{"tcp", "udp"} {
				switch w.Cloud.Network.Allows(cloud.PartyWorkers, cloud.PartyControlPlane, protocol, port) {
				case cloud.Yes:
					return report.Fail, fmt.Sprintf("workers may reach %s port %d of the control plane", protocol, port)
				case cloud.Unknown:
					return report.Unknown, "not all rules were read"
				}
			}
		}
		return report.Pass, "no rule lets workers reach gossip's ports"
	}
	if v, _ := closed(w); v == report.Pass && !w.begun {
		return nil, nil
	}
	if e.Infrastructure == nil {
		return []reconcile.Action{e.personAction("ports", s.Title, func(w world) (bool, string) {
			v, why := closed(w)
			return v == report.Pass, why
		})}, nil
	}
	return []reconcile.Action{{
		ID: "ports", What: s.Title,
		Do: func(ctx context.Context, say func(string)) error {
			if err := e.requireAllReplaced(ctx); err != nil {
				return err
			}
			rules, err := e.Infrastructure.ClosePorts(ctx, gossipPorts)
			for _, r := range rules {
				say("closed in " + r + "; what else the rule opened stays open")
			}
			if err == nil {
				say(reopenedNotice)
			}
			return err
		},
		Gates: []reconcile.Gate{e.verdictGate("gossip's ports are closed", time.Minute, func(_ context.Context, w world) (report.Verdict, string) { return closed(w) })},
	}}, nil
}

func (e *Executor) dropClassic(_ context.Context, w world, s plan.Planned) (all []reconcile.Action, err error) {
	for _, lb := range w.Cloud.LoadBalancers {
		if lb.Class != "classic" {
			continue
		}
		if e.Infrastructure == nil {
			return nil, errors.New("only AWS has classic load balancers")
		}
		all = append(all, e.deleteClassic(lb.Name))
	}
	return all, nil
}

func (e *Executor) deleteClassic(name string) reconcile.Action {
	return reconcile.Action{
		ID: "classic/" + name, What: "delete classic load balancer " + name,
		Do: func(ctx context.Context, say func(string)) error {
			if err := e.requireAllReplaced(ctx); err != nil {
				return err
			}
			say("deleting " + name)
			return e.Infrastructure.DeleteClassic(ctx, name)
		},
		Gates: []reconcile.Gate{e.boolGate("it is gone", 2*time.Minute, func(w world) (bool, string) {
			still := slices.ContainsFunc(w.Cloud.LoadBalancers, func(have cloud.LoadBalancer) bool { return have.Class == "classic" && have.Name == name })
			return !still, name
		})},
	}
}

// scrub returns the deletion of old template versions, after which there is no
// rollback. The credentials that they carried are named, because only their issuer
// can renew them.
func (e *Executor) scrub(_ context.Context, w world, _ plan.Planned) (all []reconcile.Action, err error) {
	for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleNode} {
		for _, g := range w.groups(role) {
			if g.Template.Older == 0 && !w.begun || g.Template.ID == "" {
				continue
			}
			if e.Infrastructure == nil {
				all = append(all, e.personAction("templates/"+g.Name, "delete old template versions of "+g.Name, func(w world) (bool, string) {
					g, _ := w.group(g.Name)
					return g.Template.Older == 0, fmt.Sprintf("%d older versions", g.Template.Older)
				}))
				continue
			}
			all = append(all, reconcile.Action{
				ID: "templates/" + g.Name, Group: g.Name, What: fmt.Sprintf("delete %d old template versions of %s", g.Template.Older, g.Name),
				Do: func(ctx context.Context, say func(string)) error {
					if err := e.requireAllReplaced(ctx); err != nil {
						return err
					}
					n, err := e.Infrastructure.DropVersions(ctx, g.Template.ID, g.Template.Version)
					say(fmt.Sprintf("%d versions of %s before %s are gone", n, g.Template.ID, g.Template.Version))
					if boot := g.Template.Boot; err == nil && boot != nil && len(boot.Credentials) > 0 {
						say("renew where they were issued: " + strings.Join(boot.Credentials, " "))
					}
					return err
				},
				Gates: []reconcile.Gate{e.boolGate("no older version is left", time.Minute, func(w world) (bool, string) {
					g, _ := w.group(g.Name)
					return g.Template.Older == 0, fmt.Sprintf("%d older versions", g.Template.Older)
				})},
			})
		}
	}
	return all, nil
}
