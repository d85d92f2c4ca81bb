package digitalocean

import (
	"slices"

	"github.com/digitalocean/godo"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// network returns what the firewalls allow, which is cumulative. A droplet without one is open to all.
func network(droplets []godo.Droplet, balancers []cloud.LoadBalancer, firewalls []godo.Firewall, missing bool) cloud.Network {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: missing}
	if missing {
		return n
	}
	parties := map[string][]godo.Droplet{}
	for _, d := range droplets {
		if p := survey.Party(survey.Role(tagValue(d.Tags, tagRole))); p != "" {
			parties[p] = append(parties[p], d)
		}
	}
	for _, to := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
		guarded := false
		for _, f := range firewalls {
			all, some := selects(parties[to], f.Tags, f.DropletIDs)
			guarded = guarded || some
			if !all {
				n.Partial = n.Partial || some
				continue
			}
			for _, r := range f.InboundRules {
				rules, complete := inbound(f.Name, to, r, parties, balancers)
				n.Rules = append(n.Rules, rules...)
				n.Partial = n.Partial || !complete
			}
		}
		if !guarded && len(parties[to]) > 0 {
			n.Rules = append(n.Rules, cloud.Rule{From: cloud.PartyWorld, To: to, Protocol: "all", High: 65535, Name: "no firewall"})
		}
	}
	if len(balancers) > 0 {
		// a load balancer has its own filters, which kOps does not set
		n.Partial = true
	}
	return n
}

// selects reports whether tags and IDs select all droplets, or some.
func selects(droplets []godo.Droplet, tags []string, ids []int) (all, some bool) {
	all = len(droplets) > 0
	for _, d := range droplets {
		hit := slices.Contains(ids, d.ID) || slices.ContainsFunc(d.Tags, func(t string) bool { return slices.Contains(tags, t) })
		all, some = all && hit, some || hit
	}
	return all, some
}

// inbound converts a rule; complete is false if part of it cannot be represented.
func inbound(name, to string, r godo.InboundRule, parties map[string][]godo.Droplet, balancers []cloud.LoadBalancer) (rules []cloud.Rule, complete bool) {
	rule := cloud.Rule{To: to, Protocol: r.Protocol, High: 65535, Name: name}
	if r.PortRange != "" && r.PortRange != "0" && r.PortRange != "all" {
		var ok bool
		if rule.Low, rule.High, ok = survey.Ports(r.PortRange); !ok {
			return nil, false
		}
	}
	complete = true
	if r.Sources == nil {
		return nil, true
	}
	for _, from := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
		all, some := selects(parties[from], r.Sources.Tags, r.Sources.DropletIDs)
		if all {
			rule.From = from
			rules = append(rules, rule)
		}
		complete = complete && all == some
	}
	for _, lb := range balancers {
		if slices.Contains(r.Sources.LoadBalancerUIDs, lb.ID) {
			rule.From = cloud.PartyLoadBalancer
			rules = append(rules, rule)
		}
	}
	rule.From = ""
	for _, a := range r.Sources.Addresses {
		p, ok := survey.Prefix(a)
		if !ok {
			return rules, false
		}
		rule.Sources = append(rule.Sources, p)
	}
	if len(rule.Sources) > 0 {
		rules = append(rules, rule)
	}
	return rules, complete
}
