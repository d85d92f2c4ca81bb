package plan

import (
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// how returns what carries a step out: commands where there are some to type.
func (p *Problem) how(id string) []string {
	name := " --name " + p.Cluster
	// kOps would write a context of its own into the operator's kubeconfig, and
	// make it the current one, in the middle of a crossing that goes by it.
	update := "kops update cluster" + name + " --create-kube-config=false"
	by := map[string][]string{}
	switch p.Via {
	case Kops:
		by = map[string][]string{
			"set-none":              {"kops edit cluster" + name + ": spec.topology.dns.type: None"},
			"unset-none":            {"kops edit cluster" + name + ": spec.topology.dns.type: Private"},
			"update-workers":        {update + " --instance-group-roles=node --yes"},
			"update-workers-held":   {update + " --instance-group-roles=node --lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges --yes"},
			"update-control-plane":  {update + " --instance-group-roles=control-plane --yes"},
			"remove-dns-controller": {"kops does this by itself within a minute; see that it did"},
			"narrow":                {update + " --yes"},
		}
	case Terraform:
		by = map[string][]string{
			"set-none":   {"set spec.topology.dns.type: None in your manifest", "kops replace" + name + " -f MANIFEST"},
			"unset-none": {"set spec.topology.dns.type back in your manifest", "kops replace" + name + " -f MANIFEST"},
			"update-workers": {
				update + " --target=terraform --out=DIR", "see that apiServerIPs of the nodes' user-data is not empty",
				p.terraform("the workers' launch templates, autoscaling groups and nodeupconfig.yaml objects", p.templateResources(cluster.RoleNode)),
			},
			"update-control-plane":  {p.terraform("the control plane's launch templates, autoscaling groups and nodeupconfig.yaml objects", p.templateResources(cluster.RoleControlPlane))},
			"remove-dns-controller": {p.terraform("the objects of the add-on dns-controller and of the bootstrap channel", []string{resource("aws_s3_object", p.Cluster+"-addons-dns-controller.addons.k8s.io-k8s-1.12"), resource("aws_s3_object", p.Cluster+"-addons-bootstrap")}), "kops-channels on the control plane deletes it within a minute; see that it did"},
			"narrow":                {p.terraform("the policy of the workers' role", []string{resource("aws_iam_role_policy", p.role())})},
		}
	}
	if p.Via == Kops && p.Endpoints == Addresses {
		by["hold-addresses"] = []string{"you: let each new control-plane node take over the address of the one before"}
		by["serve"] = []string{"you: install muster-peer on each control-plane node, and start it"}
		by["add-agent"] = []string{"muster install --via kops --name " + p.Cluster + " --program URL --sha256 HASH"}
	}
	if lines := by[id]; lines != nil {
		return lines
	}
	switch p.Via {
	case Terraform:
		return []string{"your pipeline, or you; the gate before the next step looks whether it was done"}
	case Lab:
		return []string{"the lab"}
	default:
		return []string{"the cloud's API and the cluster's own"}
	}
}

// terraform is an apply of some resources and nothing else: what Terraform is not
// told to leave alone it does all at once. On AWS they are named as kOps names
// them, elsewhere in words.
func (p *Problem) terraform(words string, resources []string) string {
	if p.Cloud != cluster.AWS || len(resources) == 0 {
		return "terraform apply, with -target for " + words + " only"
	}
	return "terraform apply -target=" + strings.Join(resources, " -target=")
}

// templateResources are the addresses of what makes the templates of a role's
// groups in the Terraform that kOps writes for AWS. Its groups are called GROUP.
// CLUSTER, and GROUP.masters.CLUSTER on the control plane. Terraform adds what
// these depend on, which the role's policy is not.
func (p *Problem) templateResources(role cluster.Role) (all []string) {
	for _, g := range p.groups(role) {
		name := g.Name + "." + p.Cluster
		if role == cluster.RoleControlPlane {
			name = g.Name + ".masters." + p.Cluster
		}
		all = append(all, resource("aws_launch_template", name), resource("aws_autoscaling_group", name), resource("aws_s3_object", "nodeupconfig-"+g.Name))
	}
	slices.Sort(all)
	return all
}

// resource is the address of what kOps calls name: Terraform has no dots in its
// names, so kOps writes dashes.
func resource(kind, name string) string { return kind + "." + strings.ReplaceAll(name, ".", "-") }
