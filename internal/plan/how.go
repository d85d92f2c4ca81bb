package plan

// how returns what carries a step out: commands where there are some to type.
func (p *Problem) how(id string) []string {
	name := " --name " + p.Cluster
	by := map[string][]string{}
	switch p.Via {
	case Kops:
		by = map[string][]string{
			"set-none":              {"kops edit cluster" + name + ": spec.topology.dns.type: None"},
			"unset-none":            {"kops edit cluster" + name + ": spec.topology.dns.type: Private"},
			"update-workers":        {"kops update cluster" + name + " --instance-group-roles=node --yes"},
			"update-workers-held":   {"kops update cluster" + name + " --instance-group-roles=node --lifecycle-overrides=IAMRolePolicy=ExistsAndWarnIfChanges --yes"},
			"update-control-plane":  {"kops update cluster" + name + " --instance-group-roles=control-plane --yes"},
			"remove-dns-controller": {"kops does this by itself within a minute; see that it did"},
			"narrow":                {"kops update cluster" + name + " --yes"},
		}
	case Terraform:
		by = map[string][]string{
			"set-none":             {"set spec.topology.dns.type: None in your manifest", "kops replace" + name + " -f MANIFEST"},
			"unset-none":           {"set spec.topology.dns.type back in your manifest", "kops replace" + name + " -f MANIFEST"},
			"update-workers":       {"kops update cluster" + name + " --target=terraform --out=DIR", "see that apiServerIPs of the nodes' user-data is not empty", "terraform apply, with -target for the nodes' launch templates, autoscaling groups and nodeupconfig.yaml objects only"},
			"update-control-plane": {"terraform apply, with -target for the control plane's launch templates, autoscaling groups and nodeupconfig.yaml objects only"},
			"narrow":               {"terraform apply, everything"},
		}
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
