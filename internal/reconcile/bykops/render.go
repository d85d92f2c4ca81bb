package bykops

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// updateTimeout bounds one kops update, which may wait for a load balancer.
const updateTimeout = 30 * time.Minute

// kops runs the operator's binary.
func (e *Executor) kops(ctx context.Context, args []string, say func(string)) error {
	if e.Kops == nil {
		return e.noKops()
	}
	return e.Kops.Run(ctx, args, say)
}

// update runs the plan's command for a step.
func (e *Executor) update(s plan.Planned) func(context.Context, func(string)) error {
	return func(ctx context.Context, say func(string)) error {
		if len(s.How) != 1 {
			return fmt.Errorf("the plan has %d commands for %s; one is expected", len(s.How), s.ID)
		}
		args, err := parseCommand(s.How[0])
		if err != nil {
			return err
		}
		if err := e.kops(ctx, args, say); err != nil {
			return err
		}
		e.markDone(s)
		return nil
	}
}

// updateWorkers returns the update that renders the workers' new templates.
func (e *Executor) updateWorkers(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	if _, missing := e.workersRendered(w); missing == "" && e.done(s.ID) && !w.begun {
		return nil, nil
	}
	return []reconcile.Action{{
		ID: "update", What: s.Title, Limit: updateTimeout, Do: e.update(s),
		Gates: []reconcile.Gate{
			e.verdictGate("every template leads to the load balancer", time.Minute, func(_ context.Context, w world) (report.Verdict, string) {
				v, why := e.workersRendered(w)
				if why == "" {
					why = "boot configurations hold the load balancer's addresses"
				}
				return v, why
			}),
			e.verdictGate("a new node would join", 5*time.Minute, func(_ context.Context, w world) (report.Verdict, string) { return wouldJoin(w, cluster.RoleNode) }),
		},
	}}, nil
}

// workersRendered judges whether each group of workers would boot without gossip, from
// a list of addresses.
func (e *Executor) workersRendered(w world) (report.Verdict, string) {
	for _, g := range w.groups(cluster.RoleNode) {
		switch path := bootconfig.Path(g.Template.Boot); path {
		case cloud.BootAddresses:
		case cloud.BootUnknown:
			return report.Unknown, "what " + g.Name + " boots with could not be read"
		default:
			return report.Fail, fmt.Sprintf("%s boots by %s: its list of addresses is empty", g.Name, path)
		}
		if len(g.Template.Boot.APIServerIPs) == 0 {
			return report.Fail, g.Name + " boots without an address of the API server"
		}
		config, known := w.Configs[g.Name]
		switch {
		case w.Spec.UsesNoneDNS() && !known:
			return report.Unknown, "the node configuration of " + g.Name + " could not be read"
		case w.Spec.UsesNoneDNS() && config.Gossip:
			return report.Fail, "the node configuration of " + g.Name + " still gossips"
		}
	}
	return report.Pass, ""
}

// wouldJoin judges by the audit's chain, from boot to node, whether a new instance of
// each group of a role would join.
func wouldJoin(w world, role cluster.Role) (report.Verdict, string) {
	in := w.Audit()
	in.Now = time.Now()
	for _, g := range audit.Run(in, nil).Groups {
		if g.Role != role {
			continue
		}
		switch g.Joinable {
		case audit.Joins:
		case audit.DoesNotJoin:
			return report.Fail, fmt.Sprintf("%s: %s: %s", g.Name, g.BrokenLink, g.Link(g.BrokenLink).Detail)
		default:
			return report.Unknown, g.Name + ": " + g.Deciding()
		}
	}
	return report.Pass, "from the template to the configuration service, every link holds"
}

// updateControlPlane returns the update that removes gossip from the control plane's
// templates.
func (e *Executor) updateControlPlane(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
	if e.done(s.ID) && !w.begun {
		return nil, nil
	}
	return []reconcile.Action{{
		ID: "update", What: s.Title, Limit: updateTimeout, Do: e.update(s),
		Gates: []reconcile.Gate{e.verdictGate("the control plane's templates do not gossip", time.Minute, func(_ context.Context, w world) (report.Verdict, string) {
			for _, g := range w.groups(cluster.RoleControlPlane) {
				config, known := w.Configs[g.Name]
				switch {
				case !known:
					return report.Unknown, "the node configuration of " + g.Name + " could not be read"
				case config.Gossip && w.Spec.UsesNoneDNS():
					return report.Fail, "the node configuration of " + g.Name + " still gossips"
				case g.Template.Boot == nil:
					return report.Unknown, "what " + g.Name + " boots with could not be read"
				}
			}
			return wouldJoin(w, cluster.RoleControlPlane)
		})},
	}}, nil
}

// restore returns the update of a rollback: the kOps that created the cluster applies
// the original spec.
func (e *Executor) restore(role cluster.Role) layout {
	return func(_ context.Context, w world, s plan.Planned) ([]reconcile.Action, error) {
		if e.done(s.ID) && !w.begun {
			return nil, nil
		}
		return []reconcile.Action{{
			ID: "restore", What: s.Title, Limit: updateTimeout,
			Do: func(ctx context.Context, say func(string)) error {
				if e.Before == nil {
					return errNoBefore
				}
				args := []string{
					"update", "cluster", "--name", e.Problem.Cluster, "--create-kube-config=false",
					"--instance-group-roles=" + roleFlag(role),
					"--allow-kops-downgrade", // the newer one has updated the cluster meanwhile
					"--yes",
				}
				if err := e.Before.Run(ctx, args, say); err != nil {
					return err
				}
				e.markDone(s)
				return nil
			},
			Gates: []reconcile.Gate{
				e.verdictGate("the templates are those of before", time.Minute, func(_ context.Context, w world) (report.Verdict, string) { return e.restored(w, role) }),
				e.verdictGate("a new node would join", 2*time.Minute, func(_ context.Context, w world) (report.Verdict, string) { return wouldJoin(w, role) }),
			},
		}}, nil
	}
}
