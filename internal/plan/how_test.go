package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

// With Terraform a step is an apply of its own resources, by the addresses that
// kOps gives them; an apply of everything would be all steps at once.
func TestTerraformIsToldWhatToApply(t *testing.T) {
	p := &Problem{Cluster: "minimal.k8s.local", Cloud: cluster.AWS, Via: Terraform, Groups: []Group{
		{Name: "master-us-test-1a", Role: cluster.RoleControlPlane}, {Name: "nodes", Role: cluster.RoleNode}, {Name: "gpu.large", Role: cluster.RoleNode},
	}}
	for id, want := range map[string]string{
		"update-workers": "terraform apply -target=aws_autoscaling_group.gpu-large-minimal-k8s-local -target=aws_autoscaling_group.nodes-minimal-k8s-local" +
			" -target=aws_launch_template.gpu-large-minimal-k8s-local -target=aws_launch_template.nodes-minimal-k8s-local" +
			" -target=aws_s3_object.nodeupconfig-gpu-large -target=aws_s3_object.nodeupconfig-nodes",
		"update-control-plane": "terraform apply -target=aws_autoscaling_group.master-us-test-1a-masters-minimal-k8s-local" +
			" -target=aws_launch_template.master-us-test-1a-masters-minimal-k8s-local -target=aws_s3_object.nodeupconfig-master-us-test-1a",
		"narrow": "terraform apply -target=aws_iam_role_policy.nodes-minimal-k8s-local",
		"remove-dns-controller": "terraform apply -target=aws_s3_object.minimal-k8s-local-addons-dns-controller-addons-k8s-io-k8s-1-12" +
			" -target=aws_s3_object.minimal-k8s-local-addons-bootstrap",
	} {
		if got := p.how(id); !slices.Contains(got, want) {
			t.Errorf("%s: got %q\nwant %q among them", id, got, want)
		}
	}
	p.Cloud = cluster.GCE
	if got := strings.Join(p.how("narrow"), " "); strings.Contains(got, "aws") || !strings.Contains(got, "-target for the policy of the workers' role only") {
		t.Errorf("on another cloud: %q", got)
	}
}
