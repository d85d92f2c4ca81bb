package openstack

import (
	"context"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

type securityGroup = groups.SecGroup

func (p *Provider) securityGroups(ctx context.Context, in *session) ([]securityGroup, error) {
	const attempt = "list security groups"
	client, err := openstack.NewNetworkV2(in.provider, in.region)
	if err != nil {
		return nil, in.explainEndpoint(attempt, err)
	}
	page, err := groups.List(client, groups.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	all, err := groups.ExtractGroups(page)
	return all, rest.Classify(attempt, err)
}

// network returns what the servers' security groups allow. Nova identifies groups by name, Neutron by ID; a name of two
// groups makes the network partial.
func (p *Provider) network(list []servers.Server, all []securityGroup, missing bool) cloud.Network {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: missing}
	byName := map[string][]string{"api." + p.config.Cluster: {cloud.PartyLoadBalancer}}
	for _, s := range list {
		party := survey.Party(survey.Role(s.Metadata[metaRole]))
		for _, g := range s.SecurityGroups {
			name, _ := g["name"].(string)
			if party != "" && !slices.Contains(byName[name], party) {
				byName[name] = append(byName[name], party)
			}
		}
	}
	parties := map[string][]string{} // by group ID
	seen := map[string]bool{}
	for _, g := range all {
		if len(byName[g.Name]) == 0 {
			continue
		}
		n.Partial = n.Partial || seen[g.Name]
		seen[g.Name] = true
		parties[g.ID] = byName[g.Name]
	}
	for _, g := range all {
		for _, to := range parties[g.ID] {
			for _, r := range g.Rules {
				if r.Direction != "ingress" {
					continue
				}
				out, ok := groupRules(g.Name, to, r, parties)
				n.Rules = append(n.Rules, out...)
				n.Partial = n.Partial || !ok
			}
		}
	}
	for _, party := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
		if !hasGroup(parties, party) {
			n.Partial = true // its groups are not in the list, such as another project's
		}
	}
	return n
}

func hasGroup(parties map[string][]string, party string) bool {
	for _, ps := range parties {
		if slices.Contains(ps, party) {
			return true
		}
	}
	return false
}

// groupRules converts a rule; ok is false if it cannot be represented.
func groupRules(name, to string, r rules.SecGroupRule, parties map[string][]string) (out []cloud.Rule, ok bool) {
	rule := cloud.Rule{To: to, Protocol: r.Protocol, Low: r.PortRangeMin, High: r.PortRangeMax, Name: name}
	if r.Protocol == "" {
		rule.Protocol = "all"
	}
	if r.PortRangeMin == 0 && r.PortRangeMax == 0 {
		rule.High = 65535
	}
	switch {
	case r.RemoteGroupID != "":
		for _, from := range parties[r.RemoteGroupID] {
			rule.From = from
			out = append(out, rule)
		}
		return out, true // none of the cluster's parties is in the group
	case r.RemoteAddressGroupID != "":
		return nil, false
	case r.RemoteIPPrefix == "":
		rule.From = cloud.PartyWorld
		return []cloud.Rule{rule}, true
	}
	p, ok := survey.Prefix(r.RemoteIPPrefix)
	rule.Sources = append(rule.Sources, p)
	return []cloud.Rule{rule}, ok
}
