package plan

// commands returns how to carry out a step: the commands to type, if any.
func (p *Problem) commands(id string) []string {
	name := " --name " + p.Cluster
	// By default kOps adds a context to the operator's kubeconfig and makes it the
	// current one, in the middle of a migration that depends on it.
	update := "kops update cluster" + name + " --create-kube-config=false"
	by := map[string][]string{}
	switch p.Via {
	case Kops:
		by = map[string][]string{
			"make-balancer":         {"you: set spec.api.loadBalancer.class: Network, then with the kOps that made the cluster: " + update + " --yes"},
			"set-none":              {"kops edit cluster" + name + ": spec.topology.dns.type: None"},
			"unset-none":            {"kops edit cluster" + name + ": spec.topology.dns.type: Private"},
			"update-workers":        {update + " --instance-group-roles=node --yes"},
			"update-workers-held":   {update + " --instance-group-roles=node --lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges --yes"},
			"update-control-plane":  {update + " --instance-group-roles=control-plane --yes"},
			"remove-dns-controller": {"kops does this by itself within a minute; see that it did"},
			"narrow":                {update + " --yes"},
			"restore-workers":       {"with the kOps that made it, of --kops-before: " + update + " --instance-group-roles=node --allow-kops-downgrade --yes"},
			"restore-control-plane": {"with the kOps that made it, of --kops-before: " + update + " --instance-group-roles=control-plane --allow-kops-downgrade --yes"},
		}
	case Terraform:
		by = p.terraformCommands(update + " --target=terraform --out=DIR")
	}
	if p.Via != Lab && p.Endpoints == Addresses {
		by["hold-addresses"] = []string{"you: let each new control-plane node take over the address of the one before"}
		by["serve"] = []string{"you: install muster-peer on each control-plane node, and start it"}
		by["remove-agent"] = []string{"muster uninstall --via kops --name " + p.Cluster}
		by["add-agent"] = []string{
			"muster install --via kops --name " + p.Cluster + " --program URL --sha256 HASH --server ADDRESS...   (--server: once for each held address; without a load balancer it also gives each group a boothook, by which nodeup finds them)",
		}
	}
	if lines := by[id]; lines != nil {
		if p.Via == Terraform && !p.Observable(id) {
			lines = append(lines, "then, since no look at the cluster shows it: muster reconcile cluster "+p.Cluster+" --yes --confirmed "+id)
		}
		return lines
	}
	if p.Via == Lab {
		return []string{"the lab"}
	}
	return []string{"the cloud's API and the cluster's own"}
}
