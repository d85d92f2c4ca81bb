package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
)

// planTimeout bounds how long the cloud is asked.
const planTimeout = 2 * time.Minute

func newPlanCluster(s streams) *cobra.Command {
	var (
		o     planOptions
		flags stateFlags
	)
	cmd := &cobra.Command{
		Use:   "cluster NAME",
		Short: "Plan for a cluster as its state store and its cloud show it",
		Long: `cluster reads a cluster's spec from the state store, looks at its machines in the
cloud, and finds a plan from what it sees. What it could not see is planned for
both ways; if that decides, the plan is refused and the observation named that
would settle it. It only reads.

  muster plan cluster atlas.k8s.local --state s3://kops-state --to none -o plan.yaml

The file carries a digest of every observation that the plan was made from.
` + ideaHelp() + "\n" + exitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.cluster(cmd, args); err != nil {
				return err
			}
			ask, err := o.ask()
			if err != nil {
				return err
			}
			seen, err := flags.observe(cmd.Context(), s, planTimeout)
			if err != nil {
				return err
			}
			problem, facts, err := seen.problem(ask)
			if err != nil {
				return err
			}
			return o.answer(cmd.Context(), s, problem, facts)
		},
	}
	flags.addTo(cmd)
	o.addTo(cmd)
	return cmd
}

// problem states what to plan for, and which facts that rests on.
func (o *seen) problem(ask plan.Ask) (plan.Problem, []plan.Fact, error) {
	if o.cloud == nil {
		return plan.Problem{}, nil, fmt.Errorf("plan %s: its machines could not be seen: %s; plan -f takes its spec's word for a first look", o.spec.Name, o.blind)
	}
	release, err := cluster.ParseRelease(cmp.Or(o.version, cluster.Release136.String()))
	if err != nil {
		return plan.Problem{}, nil, usageError{err}
	}
	stored := plan.Stored{Rendered: map[string]bool{}, Controller: cloud.Unknown}
	for group, config := range o.nodes {
		stored.Rendered[group] = !config.Gossip
	}
	if o.addons != nil {
		stored.Controller = cloud.No
		if slices.ContainsFunc(o.addons, func(a audit.Addon) bool { return a.Name == controllerAddon && !a.Empty }) {
			stored.Controller = cloud.Yes
		}
	}
	problem, err := plan.FromObservation(o.spec, release, stored, o.cloud, ask)
	if err != nil {
		return problem, nil, err
	}
	if len(problem.Groups) == 0 {
		return problem, nil, errors.New("no group of the cluster was observed")
	}
	return problem, plan.Facts(o.spec.Name, o.manifest, o.version, stored, o.cloud), nil
}

// controllerAddon is kOps's name of the add-on that publishes names.
const controllerAddon = "dns-controller.addons.k8s.io"
