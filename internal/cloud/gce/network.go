package gce

import (
	"context"
	"net/netip"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

type firewall struct {
	Name         string
	Network      string
	Direction    string
	Disabled     bool
	SourceRanges []string
	SourceTags   []string
	TargetTags   []string
	// SourceServiceAccounts and TargetServiceAccounts are not used by kOps.
	SourceServiceAccounts []string
	TargetServiceAccounts []string
	Allowed               []allowed
	Denied                []allowed
}

type allowed struct {
	IPProtocol string
	Ports      []string
}

func (s *session) firewalls(ctx context.Context) ([]firewall, error) {
	return list[firewall](ctx, s, "list firewall rules", "global/firewalls", "")
}

// network returns what the firewall rules of the cluster's networks allow. A load balancer passes packets through, so what
// may reach the control plane may reach the load balancer.
func network(name string, instances []instance, rules []firewall, missing bool) cloud.Network {
	n := cloud.Network{Rules: []cloud.Rule{}, Partial: missing}
	parties := map[string][]string{} // by network tag
	var networks []string
	for _, i := range instances {
		party := survey.Party(i.role(name))
		for _, tag := range i.Tags.Items {
			if party != "" && (tags{[]string{tag}}).role(name) != "" && !slices.Contains(parties[tag], party) {
				parties[tag] = append(parties[tag], party)
			}
		}
		for _, ni := range i.NetworkInterfaces {
			networks = append(networks, lastSegment(ni.Network))
		}
	}
	for _, f := range rules {
		if f.Disabled || f.Direction == "EGRESS" || !slices.Contains(networks, lastSegment(f.Network)) {
			continue
		}
		targets := partiesOf(parties, f.TargetTags)
		if len(f.TargetTags) == 0 {
			targets = []string{cloud.PartyControlPlane, cloud.PartyWorkers}
		}
		if len(targets) == 0 && len(f.TargetServiceAccounts) == 0 {
			continue
		}
		if len(f.Denied) > 0 || len(f.SourceServiceAccounts) > 0 || len(f.TargetServiceAccounts) > 0 {
			n.Partial = true // priorities and accounts are not modelled
			continue
		}
		for _, to := range targets {
			out, ok := f.rules(to, partiesOf(parties, f.SourceTags))
			n.Rules = append(n.Rules, out...)
			n.Partial = n.Partial || !ok
		}
	}
	for _, r := range slices.Clone(n.Rules) {
		if r.To == cloud.PartyControlPlane {
			r.To, r.Name = cloud.PartyLoadBalancer, r.Name+" (passed through)"
			n.Rules = append(n.Rules, r)
		}
	}
	n.Rules = append(n.Rules, cloud.Rule{
		From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Protocol: "all", High: 65535, Name: "passed through",
	})
	return n
}

// partiesOf returns the parties with one of the tags.
func partiesOf(parties map[string][]string, tags []string) (out []string) {
	for _, t := range tags {
		for _, p := range parties[t] {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// rules converts a firewall rule; ok is false if part of it cannot be represented.
func (f firewall) rules(to string, from []string) (out []cloud.Rule, ok bool) {
	var sources []netip.Prefix
	ok = true
	for _, r := range f.SourceRanges {
		p, valid := survey.Prefix(r)
		ok = ok && valid
		if valid {
			sources = append(sources, p)
		}
	}
	add := func(r cloud.Rule) {
		for _, party := range from {
			r.From, r.Sources = party, nil
			out = append(out, r)
		}
		if len(sources) > 0 {
			r.From, r.Sources = "", sources
			out = append(out, r)
		}
	}
	for _, a := range f.Allowed {
		r := cloud.Rule{To: to, Protocol: a.IPProtocol, High: 65535, Name: f.Name}
		if len(a.Ports) == 0 {
			add(r)
		}
		for _, ports := range a.Ports {
			var valid bool
			if r.Low, r.High, valid = survey.Ports(ports); valid {
				add(r)
			}
			ok = ok && valid
		}
	}
	return out, ok
}
