package auditcmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/describe"
)

// NewDescribe returns muster describe.
func NewDescribe(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Show what a cluster really is",
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDescribeCluster(s))
	return cmd
}

func newDescribeCluster(s console.Streams) *cobra.Command {
	var (
		flags   statestore.Flags
		output  string
		explain bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "cluster NAME",
		Short: "One screen: topology, generations, boot paths, load balancer, permissions",
		Long: `cluster reads a cluster's spec from the state store, looks at its machines in the
cloud, and shows both on one screen: how nodes find the API and how that was
decided, the groups with their generations and where a new node's boot path
leads, the load balancer with its targets, and how broad each role is. What could
not be seen is listed as unknown. It only reads; "muster iam operator-policy"
prints the permissions that it needs on AWS.

  muster describe cluster atlas.k8s.local --state s3://kops-state

Credentials and endpoints come from the environment, as for kOps: AWS_PROFILE,
AWS_ENDPOINT_URL, S3_ENDPOINT, HCLOUD_TOKEN and so on.

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.ParseName(cmd, args); err != nil {
				return err
			}
			if output != "table" && output != "json" {
				return console.Usagef("-o %q is unknown; write table or json", output)
			}
			if timeout <= 0 {
				return console.Usagef("--timeout %s leaves no time; write one such as 2m", timeout)
			}
			seen, err := flags.Observe(cmd.Context(), s, timeout)
			if err != nil {
				return err
			}
			d := describe.Describe(seen.Facts())
			if explain && seen.Cloud != nil {
				d.Calls = seen.Cloud.Calls
			}
			if output == "json" {
				return console.WriteJSONUnescaped(s.Out, d)
			}
			if err := d.Draw(s.Out); err != nil || d.Deadline == "" {
				return err
			}
			_, err = fmt.Fprintf(s.Out, "\n%s", console.Next("muster audit cluster "+flags.Args(), "muster plan cluster "+flags.Args()+" --to none"))
			return err
		},
	}
	flags.AddTo(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "`format`: table or json")
	cmd.Flags().BoolVar(&explain, "explain-calls", false, "show the API calls that were made, and the permission that each needs")
	cmd.Flags().DurationVar(&timeout, "timeout", statestore.CloudTimeout, "how long to ask the cloud at most")
	return cmd
}
