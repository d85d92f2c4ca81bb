package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/iam"
)

func newIAMOperator(s streams) *cobra.Command {
	var state, partition string
	cmd := &cobra.Command{
		Use:   "operator-policy",
		Short: "Print the AWS policy that muster's reading commands need",
		Long: `operator-policy prints the read-only policy under which muster sees everything of
a cluster on AWS: what "muster describe cluster --explain-calls" shows, no more.
With --state s3://... it holds the state store too.

  muster iam operator-policy --state s3://kops-state > operator.json

` + exitCodes,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			p := iam.Policy{Version: iam.Version2012, Statements: []iam.Statement{{
				Sid: "SeeTheCluster", Effect: iam.Allow,
				Action:   iam.Selector{Patterns: aws.Permissions()},
				Resource: iam.Selector{Patterns: []string{"*"}},
			}}}
			if bucket, ok := strings.CutPrefix(state, "s3://"); ok {
				p.Statements = append(p.Statements, readBucket("arn:"+partition+":s3:::", strings.TrimSuffix(bucket, "/"))...)
			} else if state != "" {
				return usagef("--state %q is not on AWS; leave it out, or write s3://BUCKET", state)
			}
			text, err := iam.JSON(p)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, strings.TrimSpace(string(text)))
			return err
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "`URL` of the state store, to be read too: s3://...")
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
