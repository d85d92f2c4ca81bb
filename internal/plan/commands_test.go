package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

// With Terraform a step applies its own resources only, by the addresses that kOps
// gives them; applying everything would take all steps at once.
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
		if got := p.commands(id); !slices.Contains(got, want) {
			t.Errorf("%s: got %q\nwant %q among them", id, got, want)
		}
	}
	p.Cloud = cluster.GCE
	if got := strings.Join(p.commands("narrow"), " "); strings.Contains(got, "aws") || !strings.Contains(got, "-target for the policy of the workers' role only") {
		t.Errorf("on another cloud: %q", got)
	}
}

// Every step says what to type next, in any cloud; a step that observation cannot
// show ends with how to confirm that it was done.
func TestEveryStepViaTerraformSaysWhatToTypeNext(t *testing.T) {
	for _, endpoints := range []Endpoints{Balancer, Addresses} {
		for _, on := range []cluster.Cloud{cluster.AWS, cluster.GCE} {
			p := &Problem{Cluster: "minimal.k8s.local", Cloud: on, Via: Terraform, Endpoints: endpoints, Groups: []Group{
				{Name: "master-us-test-1a", Role: cluster.RoleControlPlane}, {Name: "nodes", Role: cluster.RoleNode},
			}}
			for _, step := range append(p.steps(), p.rollbackSteps()...) {
				how := strings.Join(p.commands(step.ID), "\n")
				typed := slices.ContainsFunc([]string{"kops ", "terraform ", "aws ", "kubectl ", "muster "}, func(c string) bool { return strings.Contains(how, c) })
				if byHand := strings.HasPrefix(how, "you: ") || on != cluster.AWS && step.ID == "close-ports"; !typed && !byHand {
					t.Errorf("%s on %s says %q, and nothing to type", step.ID, on, how)
				}
				if confirmed := strings.HasSuffix(how, "--confirmed "+step.ID); confirmed == p.Observable(step.ID) {
					t.Errorf("%s on %s: ends with --confirmed: %v, a look shows it: %v", step.ID, on, confirmed, p.Observable(step.ID))
				}
				if on != cluster.AWS && strings.Contains(how, "aws ") && step.ID != "add-policy" && step.ID != "remove-policy" {
					t.Errorf("%s on %s: %q", step.ID, on, how)
				}
			}
		}
	}
}

// The rules that stay are added before the one that covers everything is revoked.
func TestPortsAreClosedWithoutAGap(t *testing.T) {
	p := &Problem{Cluster: "minimal.k8s.local", Cloud: cluster.AWS, Via: Terraform}
	how := p.commands("close-ports")
	for _, protocol := range []string{"tcp", "udp"} {
		revoked := slices.IndexFunc(how, func(l string) bool { return strings.Contains(l, "revoke") && strings.Contains(l, protocol) })
		for i, l := range how {
			if strings.Contains(l, "authorize") && strings.Contains(l, protocol) && i > revoked {
				t.Errorf("%q comes after what it replaces was taken away", l)
			}
		}
		if revoked < 0 {
			t.Errorf("%s is not closed: %q", protocol, how)
		}
	}
}
