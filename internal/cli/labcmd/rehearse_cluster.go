package labcmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/planflags"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/plan"
)

func newRehearseCluster(s console.Streams) *cobra.Command {
	var (
		o     rehearseOptions
		flags statestore.Flags
		via   string
	)
	cmd := &cobra.Command{
		Use:   "cluster NAME",
		Short: "Rehearse the plan for a cluster as its state store and its cloud show it",
		Long: `cluster reads a cluster's spec from the state store, looks at its machines in the
cloud, finds the plan that "muster plan cluster" finds, and carries it out on real
processes on this machine. With --plan it rehearses that plan, unless the cluster
has changed since it was made. It changes neither store nor cloud.

The lab starts in the topology that was seen. Workers boot as kOps's do, from their
group's template: they gossip, with muster-peer in protokube's place, or get the load
balancer's addresses once, or ask in vain for a name that nothing resolves. A new
worker boots from the template of now. kOps's side effects happen here too: the
workers' role is narrowed at once, and dns-controller goes a moment after the switch
to None. Such workers have nothing but the load balancer, so
--fault load-balancer-gone costs them the API. With --endpoints list workers run
muster-agent, as in muster rehearse -f.

Nodes gossip over the overlays that kOps's do, unless --overlay says otherwise. Each
group has minSize nodes.

  muster rehearse cluster atlas.k8s.local --state s3://kops-state --to none
  muster rehearse cluster atlas.k8s.local --state s3://kops-state --plan plan.yaml
` + faultHelp("--fault KIND disturbs the cluster while the first worker is on its way:") + "\n" + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.ParseName(cmd, args); err != nil {
				return err
			}
			return rehearseCluster(cmd.Context(), s, o, flags, via)
		},
	}
	flags.AddTo(cmd)
	o.addTo(cmd)
	cmd.Flags().StringVar(&via, "via", "kops", "what the plan is for: kops, terraform or lab")
	return cmd
}

func rehearseCluster(ctx context.Context, s console.Streams, o rehearseOptions, flags statestore.Flags, via string) error {
	to, err := o.validate()
	if err != nil {
		return console.UsageError{Err: err}
	}
	executor, err := planflags.Executor(via)
	if err != nil {
		return err
	}
	ask := plan.Options{To: to, Via: executor, Endpoints: plan.Endpoints(o.endpoints), MaxAway: 1}
	seen, err := flags.Observe(ctx, s, statestore.CloudTimeout)
	if err != nil {
		return err
	}
	problem, facts, err := statestore.Problem(seen, ask)
	if err != nil {
		return err
	}
	chosen, err := o.choose(ctx, s, problem, facts)
	if err != nil {
		return err
	}
	if o.overlay == "" {
		o.overlay = string(lab.KopsOverlayOf(seen.Spec))
	}
	one := subject{from: flags.State, spec: seen.Spec, plan: &chosen}
	if !o.list() { // with a list, workers run muster-agent
		one.boots = bootsOf(seen.Cloud)
	}
	switch {
	case chosen.Refused != nil:
		one.refused = fmt.Errorf("no plan: %s", chosen.Refused.Why)
	case len(chosen.Steps) == 0 && !seen.Spec.UsesNoneDNS():
		return console.Usagef("%s is %s already; there is nothing to rehearse", problem.Cluster, problem.To)
	}
	return runRehearse(ctx, s, o, chosen.Problem.To, []subject{one})
}

// choose returns the plan to rehearse: that of --plan, if the cluster has not changed
// since it was made, or else the one that is found.
func (o *rehearseOptions) choose(ctx context.Context, s console.Streams, problem plan.Problem, facts []plan.Fact) (plan.Plan, error) {
	if o.plan == "" {
		return plan.Find(ctx, problem)
	}
	file, err := o.readPlan(ctx, s, problem.Cluster)
	if err != nil {
		return file.Plan, err
	}
	if changed := plan.Changed(file.Observed, facts); len(changed) > 0 {
		return file.Plan, outdated(o.plan, problem.Cluster, changed)
	}
	return file.Plan, nil
}

// bootsOf returns how the workers of each group boot.
func bootsOf(o *cloud.Observation) map[string]lab.Boot {
	boots := make(map[string]lab.Boot)
	for _, g := range o.Groups {
		if g.Role != cluster.RoleNode {
			continue
		}
		b := lab.Boot{Template: bootconfig.Path(g.Template.Boot)}
		var lives []cloud.BootPath
		for _, i := range g.Instances {
			if i.Generation == cloud.GenerationNew {
				lives = append(lives, b.Template)
			} else {
				lives = append(lives, bootconfig.Path(i.Boot))
			}
		}
		// If they differ, the lab has the path that is easiest to lose.
		for _, path := range []cloud.BootPath{cloud.BootName, cloud.BootAddresses, cloud.BootGossip} {
			if slices.Contains(lives, path) {
				b.Lives = path
			}
		}
		boots[g.Name] = b
	}
	return boots
}
