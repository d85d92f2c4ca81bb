package auditcmd

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/iam"
)

func newIAMOperator(s console.Streams) *cobra.Command {
	var (
		state, partition string
		changes          bool
	)
	cmd := &cobra.Command{
		Use:   "operator-policy",
		Short: "Print the AWS policy that muster's commands need",
		Long: `operator-policy prints the read-only policy under which muster sees everything of
a cluster on AWS: what "muster describe cluster --explain-calls" shows, no more.
With --state s3://... it holds the state store too.

With --changes it also allows what "muster reconcile" changes by itself: instances,
targets, the bridge's policy, old template versions. What kOps changes for it needs
what kOps always needed.

  muster iam operator-policy --state s3://kops-state > operator.json

` + console.ExitCodes,
		Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p := iam.Policy{Version: iam.Version2012, Statements: []iam.Statement{{
				Sid: "SeeTheCluster", Effect: iam.Allow,
				Action:   iam.Selector{Patterns: aws.Permissions()},
				Resource: iam.Selector{Patterns: []string{"*"}},
			}}}
			if changes {
				p.Statements = append(p.Statements, iam.Statement{
					Sid: "ChangeTheCluster", Effect: iam.Allow,
					Action:   iam.Selector{Patterns: aws.ChangePermissions()},
					Resource: iam.Selector{Patterns: []string{"*"}},
				})
			}
			if bucket, ok := strings.CutPrefix(state, "s3://"); ok {
				arn, path := "arn:"+partition+":s3:::", strings.TrimSuffix(bucket, "/")
				p.Statements = append(p.Statements, readBucket(arn, path)...)
				if changes {
					p.Statements = append(p.Statements, iam.Statement{
						Sid: "KeepJournalAndSpec", Effect: iam.Allow,
						Action:   iam.Selector{Patterns: []string{"s3:DeleteObject", "s3:PutObject"}},
						Resource: iam.Selector{Patterns: []string{arn + path + "/*/config", arn + path + "/*/muster/*"}},
					})
				}
			} else if state != "" {
				return console.Usagef("--state %q is not on AWS; leave it out, or write s3://BUCKET", state)
			}
			text, err := iam.JSON(p)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.Out, strings.TrimSpace(string(text)))
			return err
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "`URL` of the state store, to be read too: s3://...")
	cmd.Flags().BoolVar(&changes, "changes", false, "also what muster reconcile changes")
	cmd.Flags().StringVar(&partition, "partition", "aws", "AWS `partition`, such as aws-us-gov")
	return cmd
}

// readBucket allows reading a state store, secrets and keys excepted.
func readBucket(arn, path string) []iam.Statement {
	bucket, _, _ := strings.Cut(path, "/")
	return []iam.Statement{
		{
			Sid: "ListTheStateStore", Effect: iam.Allow,
			Action:   iam.Selector{Patterns: []string{"s3:GetBucketLocation", "s3:ListBucket"}},
			Resource: iam.Selector{Patterns: []string{arn + bucket}},
		},
		{
			Sid: "ReadTheStateStore", Effect: iam.Allow,
			Action:   iam.Selector{Patterns: []string{"s3:GetObject"}},
			Resource: iam.Selector{Patterns: []string{arn + path + "/*"}},
		},
		{
			Sid: "NoKeysNorSecrets", Effect: iam.Deny,
			Action:   iam.Selector{Patterns: []string{"s3:GetObject"}},
			Resource: iam.Selector{Patterns: []string{arn + path + "/*/pki/private/*", arn + path + "/*/secrets/*"}},
		},
	}
}
