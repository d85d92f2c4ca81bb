package auditcmd

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/iam"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// termsOptions are the flags that say whose permissions are meant.
type termsOptions struct {
	role, topology, release string
	name, partition, region string
	state, backups          string
	registry, accounts      bool
	output                  string
}

func (o *termsOptions) add(cmd *cobra.Command, formats string) {
	f := cmd.Flags()
	f.StringVar(&o.role, "role", "node", "whose permissions: `node or control-plane`")
	f.StringVar(&o.topology, "topology", "", "gossip, hybrid or none: `how` the cluster finds its API")
	f.StringVar(&o.release, "kops-version", "", "the kOps `version` that configured the nodes, such as 1.36")
	f.StringVar(&o.name, "name", "", "the cluster's `name` (KOPS_CLUSTER_NAME)")
	f.StringVar(&o.state, "state", "", "the state store's `URL`, such as s3://kops-state (KOPS_STATE_STORE)")
	f.StringVar(&o.backups, "backups", "", "where etcd's backups are, as a `URL` (default: the state store)")
	f.StringVar(&o.partition, "partition", "", "AWS `partition`, such as aws or aws-us-gov")
	f.StringVar(&o.region, "region", "", "AWS `region`")
	f.BoolVar(&o.registry, "registry", false, "nodes pull from the account's own registry (spec.iam.allowContainerRegistry)")
	f.BoolVar(&o.accounts, "service-accounts", false, "add-ons have roles of their own (spec.iam.useServiceAccountExternalPermissions)")
	f.StringVarP(&o.output, "output", "o", "", formats)
}

// fromEnvironment takes the cluster from the environment, for commands that need one. A
// policy in a file may be of any cluster unless the flags say otherwise.
func (o *termsOptions) fromEnvironment() {
	o.name = cmp.Or(o.name, os.Getenv("KOPS_CLUSTER_NAME"))
	o.state = cmp.Or(o.state, os.Getenv("KOPS_STATE_STORE"))
}

// terms reads the flags.
func (o *termsOptions) terms() (t iam.Terms, err error) {
	switch o.role {
	case "node":
		t.Role = cluster.RoleNode
	case "control-plane":
		t.Role = cluster.RoleControlPlane
	default:
		return t, console.Usagef("--role %q; want node or control-plane", o.role)
	}
	if o.topology == "" || o.release == "" {
		return t, console.Usagef("--topology and --kops-version are missing: what a role needs depends on both")
	}
	if t.Topology, err = cluster.ParseTopology(o.topology); err != nil {
		return t, console.Usagef("--topology: %w", err)
	}
	if t.Release, err = cluster.ParseRelease(o.release); err != nil {
		return t, console.Usagef("--kops-version: %w", err)
	}
	t.Cluster, t.Partition, t.Region, t.Registry, t.ServiceAccounts = o.name, o.partition, o.region, o.registry, o.accounts
	if t.State, err = storePath("--state", o.state, o.name); err != nil {
		return t, err
	}
	if t.Backups, err = storePath("--backups", o.backups, o.name); err != nil {
		return t, err
	}
	if err := t.Check(); err != nil {
		return t, console.UsageError{Err: err}
	}
	return t, nil
}

// storePath returns bucket and path of a cluster in an S3 store; empty stands for any.
func storePath(flag, url, name string) (string, error) {
	if url == "" {
		return "", nil
	}
	path, ok := strings.CutPrefix(strings.TrimRight(url, "/"), "s3://")
	if !ok || path == "" || strings.ContainsAny(path, "*?$ ") {
		return "", console.Usagef("%s %q; want a store on S3 such as s3://kops-state", flag, url)
	}
	if name == "" {
		return "", console.Usagef("%s wants --name beside it: the cluster's objects are below its name", flag)
	}
	return path + "/" + name, nil
}

func newIAMAudit(s console.Streams) *cobra.Command {
	var o termsOptions
	cmd := &cobra.Command{
		Use:   "audit POLICY.json | --name NAME --state URL",
		Short: "Set what a role holds against what its nodes need",
		Long: `Audit sets each action that a policy allows against what nodes of the role need
under the given topology and kOps version, with who asks it and why. Names that are
not given (--name, --state, --partition, --region) are taken for any.

Without a file it looks at a cluster: the roles of its nodes, whatever the cloud calls
them (policies, bound roles, tokens in user-data), under the topology and the kOps
version that the state store has, or those of the flags.

exit codes: 0 held is what is needed, 3 something is wider, not needed or missing`,
		Example: "  muster iam audit nodes.json --topology hybrid --kops-version 1.36\n  muster iam audit masters.json --role control-plane --topology none --kops-version 1.36 -o json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				o.fromEnvironment()
			}
			if len(args) > 1 || len(args) == 0 && (o.name == "" || o.state == "") {
				return console.CommandLinef(cmd, "%s wants one file with a policy, or --name and --state of a cluster", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(o.output, "json"); err != nil {
				return err
			}
			if len(args) == 0 {
				return auditRoles(cmd.Context(), s, o)
			}
			t, err := o.terms()
			if err != nil {
				return err
			}
			held, err := readPolicy(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			return reportComparison(s, console.InputName(args[0]), iam.Compare(held, iam.Needs(t)), o.output)
		},
	}
	o.add(cmd, "json")
	return cmd
}

func reportComparison(s console.Streams, of string, c iam.Comparison, output string) error {
	err := error(nil)
	if output == "json" {
		err = console.WriteJSONUnescaped(s.Out, c)
	} else {
		err = comparisonTable(s, of, c)
	}
	if err == nil && !c.Clean() {
		err = console.ErrFound
	}
	return err
}

// missing is the standing of an action that is needed and not held.
const missing iam.Standing = "missing"

// comparisonTable prints how many actions have each standing, then the actions, what is
// wrong first; those with the same reason share a row.
func comparisonTable(s console.Streams, of string, c iam.Comparison) error {
	type reason struct {
		standing    iam.Standing
		caller, why string
	}
	counts := map[iam.Standing]int{}
	actions := map[reason][]string{}
	var reasons []reason
	add := func(standing iam.Standing, action, caller, why string) {
		r := reason{standing, caller, why}
		if actions[r] == nil {
			reasons = append(reasons, r)
		}
		actions[r] = append(actions[r], action)
		counts[standing]++
	}
	for _, n := range c.Missing {
		for _, a := range n.Actions {
			add(missing, a, n.Caller, n.Why)
		}
	}
	for _, h := range c.Holdings {
		add(h.Standing, h.What, h.Caller, h.Why)
	}
	var total []string
	var rows [][]string
	for _, standing := range []iam.Standing{missing, iam.Excess, iam.Wider, iam.Unclear, iam.Needed} {
		if n := counts[standing]; n > 0 {
			total = append(total, fmt.Sprintf("%d %s", n, standing))
		}
		for _, r := range reasons {
			if r.standing == standing {
				why := strings.TrimPrefix(r.caller+": "+r.why, ": ")
				rows = append(rows, []string{string(standing), strings.Join(actions[r], ", ")}, []string{"", "  " + why})
			}
		}
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, "%s   %s\n", of, console.OrNone(total))
	console.FoldRows(&page, rows)
	_, err := page.WriteTo(s.Out)
	return err
}

func newIAMRender(s console.Streams) *cobra.Command {
	var o termsOptions
	cmd := &cobra.Command{
		Use:   "render --topology TOPOLOGY --kops-version VERSION --name NAME --state URL",
		Short: "Write the least privilege of a role, as JSON or Terraform",
		Long: `Render writes the policy that grants nodes of a role what they need and nothing
else: as a document (the default), or with -o terraform as HCL that attaches it to
kOps's role, each statement with who asks it and why. It changes nothing.`,
		Example: "  muster iam render --topology none --kops-version 1.36 --name atlas.k8s.local --state s3://kops-state -o terraform",
		Args:    console.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if err := console.CheckOutput(o.output, "json", "terraform"); err != nil {
				return err
			}
			if o.fromEnvironment(); o.name == "" || o.state == "" {
				return console.Usagef("--name and --state are missing: a policy that names neither would hold for any cluster")
			}
			if o.partition == "" {
				o.partition = "aws"
			}
			t, err := o.terms()
			if err != nil {
				return err
			}
			return render(s, t, o)
		},
	}
	o.add(cmd, "json or terraform")
	return cmd
}

func render(s console.Streams, t iam.Terms, o termsOptions) error {
	needs := iam.Needs(t)
	if len(needs) == 0 {
		fmt.Fprintln(s.Err, "nothing is needed: delete the role's inline policy")
		return nil
	}
	if o.output == "terraform" {
		prefix := "nodes."
		if t.Role == cluster.RoleControlPlane {
			prefix = "masters."
		}
		_, err := s.Out.Write(iam.Terraform(prefix+t.Cluster, needs))
		return err
	}
	data, err := iam.JSON(iam.PolicyOf(needs))
	if err != nil {
		return err
	}
	_, err = s.Out.Write(data)
	return err
}
