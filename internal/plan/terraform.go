package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// terraformCommands returns the commands for every step, where the operator's own
// Terraform applies what kOps renders. render is the command that renders it. Words
// in capitals are explained on the line before, or in the line itself.
func (p *Problem) terraformCommands(render string) map[string][]string {
	replace := "kops replace --name " + p.Cluster + " -f MANIFEST"
	workers := p.terraform("the workers' launch templates, autoscaling groups and nodeupconfig.yaml objects", p.templateResources(cluster.RoleNode))
	members := p.terraform("the control plane's launch templates, autoscaling groups and nodeupconfig.yaml objects", p.templateResources(cluster.RoleControlPlane))
	all := map[string][]string{
		"set-none":             {"set spec.topology.dns.type: None in your manifest", replace},
		"unset-none":           {"set spec.topology.dns.type back in your manifest", replace},
		"update-workers":       {render, "see that apiServerIPs of the nodes' user-data is not empty", workers},
		"update-control-plane": {members},
		"restore-workers":      {"with the kOps that made the cluster: " + render, workers},
		"restore-control-plane": {
			"with the kOps that made the cluster: " + render, members,
		},
		"remove-dns-controller": {p.terraform("the objects of the add-on dns-controller and of the bootstrap channel", []string{resource("aws_s3_object", p.Cluster+"-addons-dns-controller.addons.k8s.io-k8s-1.12"), resource("aws_s3_object", p.Cluster+"-addons-bootstrap")}), "kops-channels on the control plane deletes it within a minute; see that it did"},
		"narrow":                {p.terraform("the policy of the workers' role", []string{resource("aws_iam_role_policy", p.role())})},
		"publish": {
			"for each name, for as long as the plan has it, with the load balancer's private addresses: muster gossip publish NAME." + p.Cluster + " ADDRESS... --via kubernetes -f MANIFEST --hold --yes   (NAME: api.internal, and kops-controller.internal)",
		},
		"withdraw":      {"end the two commands that hold the names", "kubectl -n kube-system rollout restart deployment dns-controller   (if it is still there)"},
		"prove":         p.proveCommands(),
		"add-policy":    {"muster iam render --topology gossip --kops-version 1.36 --name " + p.Cluster + " --state STATE > bridge.json", "aws iam put-role-policy --role-name " + p.role() + " --policy-name muster-bridge." + p.Cluster + " --policy-document file://bridge.json"},
		"remove-policy": {"aws iam delete-role-policy --role-name " + p.role() + " --policy-name muster-bridge." + p.Cluster},
		"make-balancer": {
			"set spec.api.loadBalancer.class: Network in your manifest", replace, "with the kOps that made the cluster: " + render,
			p.terraform("the load balancer, its target group and its listener on port 443", []string{p.balancerResource("aws_lb_listener", "-443")}),
			p.attach("tcp-"),
		},
		"expose": {
			render,
			p.terraform("the listener on port 3988, its target group, and the firewall rules to it", []string{p.balancerResource("aws_lb_listener", "-3988"), "aws_security_group_rule.kops-controller-elb-to-cp", "aws_security_group_rule.node-to-elb"}),
			p.attach("kops-controller-"),
		},
		"canary":             p.canaryCommands(),
		"roll-workers":       {"kops rolling-update cluster --name " + p.Cluster + " --instance-group-roles=node --yes"},
		"roll-control-plane": {"kops rolling-update cluster --name " + p.Cluster + " --instance-group-roles=control-plane --yes"},
		"close-ports":        {"take ports 3993 and 3998-4000 out of the firewall rules between nodes; kOps's next update opens them again"},
		"drop-classic":       {p.terraform("the classic load balancer, which kOps no longer writes, so that this deletes it", []string{p.balancerResource("aws_elb", "")})},
		"scrub":              {"delete the versions of the groups' templates before the newest", "renew the credentials that they hold: muster audit cluster " + p.Cluster},
	}
	if p.Cloud == cluster.AWS {
		all["close-ports"], all["scrub"] = p.closePortsCommands(), p.scrubCommands()
	}
	for id, lines := range all {
		all[id] = slices.DeleteFunc(lines, func(line string) bool { return line == "" })
	}
	return all
}

// balancerResource returns the Terraform address of the API's load balancer, or of a
// resource that kOps names after it.
func (p *Problem) balancerResource(kind, suffix string) string {
	return resource(kind, "api-"+p.Cluster) + suffix
}

// attach returns the command that attaches the control plane's groups to a target
// group. kOps makes that part of the groups, and applying those would apply their
// templates too.
func (p *Problem) attach(prefix string) string {
	if p.Cloud != cluster.AWS {
		return ""
	}
	var names []string
	for _, g := range p.groups(cluster.RoleControlPlane) {
		names = append(names, g.Name+".masters."+p.Cluster)
	}
	return "for each GROUP of " + strings.Join(names, " ") + ", with the ARN of the target group " + prefix + "... that this made: aws autoscaling attach-load-balancer-target-groups --auto-scaling-group-name GROUP --target-group-arns ARN"
}

func (p *Problem) proveCommands() []string {
	if p.Endpoints == Addresses {
		return []string{"on one worker of each group, for each control-plane address: kubectl debug node/NODE -it --image=busybox -- sh -c 'nc -zw5 ADDRESS 443'"}
	}
	return []string{
		"on one worker of each group, for each private address of the load balancer: kubectl debug node/NODE -it --image=busybox -- sh -c 'nc -zw5 ADDRESS 443 && nc -zw5 ADDRESS 3988'",
	}
}

// canaryCommands returns the commands that replace one node of each group.
func (p *Problem) canaryCommands() []string {
	var names []string
	for _, g := range p.groups(cluster.RoleNode) {
		names = append(names, g.Name)
	}
	lines := []string{
		"NODE: one of each of " + strings.Join(names, " ") + "; see kubectl get nodes -L kops.k8s.io/instancegroup",
		"kubectl drain NODE --ignore-daemonsets --delete-emptydir-data --timeout 15m",
	}
	if p.Cloud == cluster.AWS {
		return append(lines, "aws autoscaling terminate-instance-in-auto-scaling-group --instance-id NODE --no-should-decrement-desired-capacity   (kOps names nodes by their instance)")
	}
	return append(lines, "delete its machine, so that the group makes another")
}

// closePortsCommands splits the rules that let workers reach the control plane, in
// the security groups as kOps names them. The new rules are added before the old
// ones are revoked.
func (p *Problem) closePortsCommands() []string {
	lines := []string{}
	for _, who := range []string{"masters", "nodes"} {
		lines = append(lines, fmt.Sprintf("%s=$(aws ec2 describe-security-groups --filters Name=group-name,Values=%s.%s --query 'SecurityGroups[0].GroupId' --output text)", strings.ToUpper(who), who, p.Cluster))
	}
	rule := func(verb, protocol, ports string) {
		lines = append(lines, fmt.Sprintf("aws ec2 %s-security-group-ingress --group-id $MASTERS --source-group $NODES --protocol %s --port %s", verb, protocol, ports))
	}
	for _, r := range []struct{ protocol, low, high string }{{"tcp", "2382", "4000"}, {"udp", "1", "65535"}} {
		rule("authorize", r.protocol, r.low+"-3992")
		rule("authorize", r.protocol, "3994-3997")
		if r.high != "4000" {
			rule("authorize", r.protocol, "4001-"+r.high)
		}
		rule("revoke", r.protocol, r.low+"-"+r.high)
	}
	return append(lines, "keep the same out of Terraform: kOps's next update writes the rules as they were, and the next apply opens the ports again")
}

// scrubCommands deletes all template versions but the newest, which must be made the
// default first.
func (p *Problem) scrubCommands() []string {
	var names []string
	for _, g := range p.Groups {
		name := g.Name + "." + p.Cluster
		if g.Role == cluster.RoleControlPlane {
			name = g.Name + ".masters." + p.Cluster
		}
		names = append(names, name)
	}
	return []string{
		"for each TEMPLATE of " + strings.Join(names, " ") + ":",
		"aws ec2 modify-launch-template --launch-template-name TEMPLATE --default-version $(aws ec2 describe-launch-templates --launch-template-names TEMPLATE --query 'LaunchTemplates[0].LatestVersionNumber' --output text)",
		"aws ec2 delete-launch-template-versions --launch-template-name TEMPLATE --versions $(aws ec2 describe-launch-template-versions --launch-template-name TEMPLATE --query 'LaunchTemplateVersions[1:].VersionNumber' --output text)   (they come newest first)",
		"renew the credentials that the deleted ones held: muster audit cluster " + p.Cluster,
	}
}

// terraform returns an apply limited to some resources: without targets Terraform
// applies everything at once. On AWS the resources are those that kOps names;
// elsewhere words describes them.
func (p *Problem) terraform(words string, resources []string) string {
	if p.Cloud != cluster.AWS || len(resources) == 0 {
		return "terraform apply, with -target for " + words + " only"
	}
	return "terraform apply -target=" + strings.Join(resources, " -target=")
}

// templateResources returns the Terraform addresses of the templates of a role's
// groups, as kOps renders them for AWS: GROUP.CLUSTER, or GROUP.masters.CLUSTER on
// the control plane. Terraform includes their dependencies, of which the role's
// policy is none.
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

// resource returns the Terraform address of what kOps calls name, with dashes for
// dots, which Terraform does not allow in names.
func resource(kind, name string) string { return kind + "." + strings.ReplaceAll(name, ".", "-") }
