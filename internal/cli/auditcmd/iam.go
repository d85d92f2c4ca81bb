package auditcmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/iam"
)

// NewIAM returns muster iam.
func NewIAM(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "iam",
		Short: "Permissions: what nodes hold, what they need, and proofs that a change only narrows",
		Long: `iam reads AWS policy documents and decides about them, offline and without
credentials. A file holds one policy as AWS prints it, or what
"aws iam get-role-policy" answers.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIAMProve(s), newIAMDiff(s), newIAMAudit(s), newIAMRender(s), newIAMOperator(s))
	return cmd
}

// readPolicy reads one policy document.
func readPolicy(ctx context.Context, s console.Streams, file string) ([]iam.Policy, error) {
	data, err := s.ReadFile(ctx, file)
	if err != nil {
		return nil, console.Usagef("cannot read the policy: %w", err)
	}
	p, err := iam.Parse(console.InputName(file), data)
	if err != nil {
		return nil, err
	}
	return []iam.Policy{p}, nil
}

// readTwo reads the two policies that a command compares.
func readTwo(ctx context.Context, s console.Streams, files []string) (first, second []iam.Policy, err error) {
	if first, err = readPolicy(ctx, s, files[0]); err != nil {
		return nil, nil, err
	}
	second, err = readPolicy(ctx, s, files[1])
	return first, second, err
}

func twoFiles(first, second string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return console.CommandLinef(cmd, "%s wants two files, %s and %s", cmd.CommandPath(), first, second)
		}
		return nil
	}
}

func newIAMProve(s console.Streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "prove NEW.json OLD.json",
		Short: "Prove that a policy allows nothing that another does not",
		Long: `Prove answers whether every request that NEW allows is allowed by OLD too:

  subset          yes, for every action, resource and context            exit 0
  not a subset    no; a request that NEW allows and OLD does not follows  exit 3
  cannot decide   a condition that is not modelled decides               exit 1

It never says subset when that is wrong. Denials count on both sides, and so do
several statements that cover one only together.`,
		Example: "  muster iam prove new.json old.json",
		Args:    twoFiles("NEW", "OLD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(output, "json"); err != nil {
				return err
			}
			newer, older, err := readTwo(cmd.Context(), s, args)
			if err != nil {
				return err
			}
			return reportProof(s, args[0], args[1], iam.Prove(newer, older), output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// verdicts are the texts for the verdicts of a proof, with room for two policies.
var verdicts = map[iam.Verdict]string{
	iam.Subset:       "subset: %s allows nothing that %s does not",
	iam.NotSubset:    "not a subset: %s allows what %s does not, such as",
	iam.CannotDecide: "cannot decide whether %s allows nothing that %s does not",
}

func reportProof(s console.Streams, newer, older string, proof iam.Proof, output string) error {
	if output == "json" {
		if err := console.WriteJSONUnescaped(s.Out, proof); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.Out, verdicts[proof.Verdict]+"\n", newer, older)
		if r := proof.Counter; r != nil {
			printRequest(s, *r)
		}
	}
	switch proof.Verdict {
	case iam.NotSubset:
		return console.ErrFound
	case iam.CannotDecide:
		return fmt.Errorf("cannot decide: %s", proof.Why)
	}
	return nil
}

// printRequest prints a counterexample, a line for each fact.
func printRequest(s console.Streams, r iam.Request) {
	fmt.Fprintf(s.Out, "  action    %s\n  resource  %s\n", r.Action, r.Resource)
	for _, key := range sortedKeys(r.Context) {
		for _, v := range r.Context[key] {
			fmt.Fprintf(s.Out, "  context   %s = %s\n", key, v)
		}
	}
}

func newIAMDiff(s console.Streams) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "diff A.json B.json",
		Short: "Show what B allows that A does not, and the reverse",
		Long: `Diff compares two policies by what they allow, not by how they are written: each
action that one of them holds and the other does not hold as well, with a request
that shows it.

exit codes: 0 they allow the same, 3 they differ, 1 that cannot be decided`,
		Args: twoFiles("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(output, "json"); err != nil {
				return err
			}
			first, second, err := readTwo(cmd.Context(), s, args)
			if err != nil {
				return err
			}
			return reportDiff(s, iam.Diff(first, second), args, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

func reportDiff(s console.Streams, d iam.Difference, files []string, output string) error {
	if output == "json" {
		if err := console.WriteJSONUnescaped(s.Out, d); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(s.Out, diffVerdict(d, files))
		for _, h := range d.Lost {
			fmt.Fprintf(s.Out, "  - %-44s %s\n", h.What, h.Why)
		}
		for _, h := range d.Gained {
			fmt.Fprintf(s.Out, "  + %-44s %s\n", h.What, h.Why)
		}
	}
	for _, p := range []iam.Proof{d.Narrower, d.Wider} {
		if p.Verdict == iam.CannotDecide {
			return fmt.Errorf("cannot decide: %s", p.Why)
		}
	}
	if d.Narrower.Verdict != iam.Subset || d.Wider.Verdict != iam.Subset {
		return console.ErrFound
	}
	return nil
}

func diffVerdict(d iam.Difference, files []string) string {
	a, b := files[0], files[1]
	switch narrower, wider := d.Narrower.Verdict, d.Wider.Verdict; {
	case narrower == iam.CannotDecide || wider == iam.CannotDecide:
		return "whether " + b + " allows what " + a + " does cannot be decided in full"
	case narrower == iam.Subset && wider == iam.Subset:
		return a + " and " + b + " allow the same"
	case narrower == iam.Subset:
		return b + " is narrower than " + a
	case wider == iam.Subset:
		return b + " is wider than " + a
	default:
		return b + " allows less than " + a + " in some ways and more in others"
	}
}
