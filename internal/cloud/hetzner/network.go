package hetzner

import (
	"context"
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

func (p *Provider) firewalls(ctx context.Context) ([]*hcloud.Firewall, error) {
	all, err := p.client.Firewall.AllWithOpts(ctx, hcloud.FirewallListOpts{ListOpts: p.selection("")})
	return all, rest.Classify("list firewalls of "+p.config.Cluster, err)
}

// network returns what the firewalls allow from outside; between machines of a private network everything is allowed.
func network(machines []survey.Machine, balancers []cloud.LoadBalancer, firewalls []*hcloud.Firewall, missing bool) cloud.Network {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: missing}
	hasFirewall := map[string]bool{}
	for _, f := range firewalls {
		party := survey.Party(survey.Role(f.Labels[labelFirewallRole]))
		if party == "" {
			n.Partial = true // of unknown machines
			continue
		}
		hasFirewall[party] = true
		for _, r := range f.Rules {
			rule, ok := firewallRule(f.Name, party, r)
			if !ok {
				n.Partial = true
				continue
			}
			if r.Direction == hcloud.FirewallRuleDirectionIn {
				n.Rules = append(n.Rules, rule)
			}
		}
	}
	private := map[string]bool{}
	for _, lb := range balancers {
		private[cloud.PartyLoadBalancer] = private[cloud.PartyLoadBalancer] || slices.ContainsFunc(lb.Addresses, netip.Addr.IsPrivate)
	}
	for _, m := range machines {
		party := survey.Party(m.Role)
		if !hasFirewall[party] {
			n.Partial = true // without a firewall the public interface is open
		}
		private[party] = private[party] || m.Addr.IsValid()
	}
	for _, to := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
		for _, from := range []string{cloud.PartyControlPlane, cloud.PartyWorkers, cloud.PartyLoadBalancer} {
			if private[from] && private[to] {
				n.Rules = append(n.Rules, cloud.Rule{From: from, To: to, Protocol: "all", High: 65535, Name: "private network"})
			}
		}
	}
	if private[cloud.PartyWorkers] {
		n.Rules = append(n.Rules, cloud.Rule{
			From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Protocol: "all", High: 65535, Name: "load balancers are not filtered",
		})
	}
	return n
}

func firewallRule(name, party string, r hcloud.FirewallRule) (cloud.Rule, bool) {
	rule := cloud.Rule{To: party, Protocol: string(r.Protocol), High: 65535, Name: name}
	for _, source := range r.SourceIPs {
		prefix, ok := survey.Prefix(source.String())
		if !ok {
			return rule, false
		}
		rule.Sources = append(rule.Sources, prefix)
	}
	if r.Port == nil || *r.Port == "any" {
		return rule, true
	}
	var ok bool
	rule.Low, rule.High, ok = survey.Ports(*r.Port)
	return rule, ok
}
