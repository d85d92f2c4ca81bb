package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/observe"
	"github.com/muster-dev/muster/internal/plan"
)

// planTimeout bounds how long the cloud is asked.
const planTimeout = 2 * time.Minute

func newPlanCluster(s console.Streams) *cobra.Command {
	var (
		o     planOptions
		flags stateFlags
	)
	cmd := &cobra.Command{
		Use:   "cluster NAME",
		Short: "Plan for a cluster as its state store and its cloud show it",
		Long: `cluster reads a cluster's spec from the state store, looks at its machines in the
cloud, and finds a plan from what it sees. What it could not see is planned for
both ways; where that decides, there is no plan, and it names the observation that
would settle it. It only reads.

  muster plan cluster atlas.k8s.local --state s3://kops-state --to none -o plan.yaml

The file carries a digest of every observation that the plan was made from.
` + ideaHelp() + "\n" + console.ExitCodes,
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
			problem, facts, err := problemOf(seen, ask)
			if err != nil {
				return err
			}
			o.of = "cluster " + flags.again()
			return o.answer(cmd.Context(), s, problem, facts)
		},
	}
	flags.addTo(cmd)
	o.addTo(cmd)
	return cmd
}

// problemOf states what to plan for, and which facts that rests on.
func problemOf(seen *observe.Cluster, ask plan.Ask) (plan.Problem, []plan.Fact, error) {
	problem, facts, err := seen.Problem(ask)
	if errors.Is(err, cloud.ErrUsage) {
		err = console.UsageError{Err: err}
	}
	return problem, facts, err
}
