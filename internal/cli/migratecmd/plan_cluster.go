package migratecmd

import (
	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
)

func newPlanCluster(s console.Streams) *cobra.Command {
	var (
		o     planOptions
		flags statestore.Flags
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
			if err := flags.ParseName(cmd, args); err != nil {
				return err
			}
			ask, err := o.ask()
			if err != nil {
				return err
			}
			seen, err := flags.Observe(cmd.Context(), s, statestore.CloudTimeout)
			if err != nil {
				return err
			}
			problem, facts, err := statestore.Problem(seen, ask)
			if err != nil {
				return err
			}
			o.clusterArgs = "cluster " + flags.Args()
			return o.answer(cmd.Context(), s, problem, facts)
		},
	}
	flags.AddTo(cmd)
	o.addTo(cmd)
	return cmd
}
