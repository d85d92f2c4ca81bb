package iam

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
)

func TestWords(t *testing.T) {
	const policy = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:GetObject","ec2:DescribeInstances"],"Resource":"*"},
		{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"},
		{"Effect":"Allow","Action":"ec2:AttachVolume","Resource":["a","b"],"Condition":{"StringEquals":{"aws:ResourceTag/KubernetesCluster":"atlas"}}},
		{"Effect":"Deny","NotAction":"s3:*","NotResource":"arn:aws:s3:::x"}]}`
	for _, tt := range []struct {
		name string
		role cloud.Role
		want []string
	}{
		{"policies of AWS", cloud.Role{Name: "nodes", Policies: map[string]string{"p": policy}, Managed: []string{"arn:x"}}, []string{
			"denied: all but s3:* on all but arn:aws:s3:::x",
			"ec2:AttachVolume on a, b with StringEquals aws:ResourceTag/KubernetesCluster atlas",
			"ec2:DescribeInstances on *",
			"policy arn:x, attached; its text was not read",
			"s3:GetObject on *",
		}},
		{"bindings elsewhere", cloud.Role{Bindings: []string{"roles/viewer on project p"}}, []string{"roles/viewer on project p"}},
		{"nothing", cloud.Role{}, nil},
		{"a document that cannot be read", cloud.Role{Name: "nodes", Policies: map[string]string{"p": "{"}}, []string{"role nodes, policy p:1:2: document ends too early"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Words(tt.role)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
