package iam

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/cluster"
)

func TestRenderedJSONIsThePolicy(t *testing.T) {
	terms := termsOf(cluster.RoleControlPlane, cluster.None, cluster.Release136)
	want := PolicyOf(Needs(terms))
	data, err := JSON(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("rendered", data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("read again (-rendered +read):\n%s", diff)
	}
}

func TestTerraform(t *testing.T) {
	needs := []Need{{
		Name: "Read", Caller: "nodeup", Why: "reads", Actions: []string{"s3:GetObject", "s3:ListBucket"}, Resources: []string{"arn:aws:s3:::${b}/*"},
		Conditions: []Condition{{Operator: "StringEquals", Key: "k", Values: []string{"a", `b"`}}},
	}}
	const want = `data "aws_iam_policy_document" "nodes-a-k8s-local" {
  # nodeup: reads
  statement {
    sid       = "Read"
    effect    = "Allow"
    actions   = [
      "s3:GetObject",
      "s3:ListBucket",
    ]
    resources = ["arn:aws:s3:::$${b}/*"]

    condition {
      test     = "StringEquals"
      variable = "k"
      values   = ["a", "b\""]
    }
  }
}

resource "aws_iam_role_policy" "nodes-a-k8s-local" {
  name   = "nodes.a.k8s.local"
  role   = "nodes.a.k8s.local"
  policy = data.aws_iam_policy_document.nodes-a-k8s-local.json
}
`
	if diff := cmp.Diff(want, string(Terraform("nodes.a.k8s.local", needs))); diff != "" {
		t.Errorf("Terraform (-want +got):\n%s", diff)
	}
	if got := string(Terraform("1a", nil)); !strings.Contains(got, `"_1a"`) {
		t.Errorf("a label may not begin with a digit: %s", got)
	}
}
