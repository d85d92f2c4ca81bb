package azure

import (
	"context"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// loadBalancers returns those with the cluster's tag.
func (p *Provider) loadBalancers(ctx context.Context, s *survey.Survey) ([]cloud.LoadBalancer, error) {
	all, err := allPages(ctx, "list load balancers", p.balancers.NewListPager(p.config.ResourceGroup, nil),
		func(page armnetwork.LoadBalancersClientListResponse) []*armnetwork.LoadBalancer { return page.Value })
	if err != nil {
		return nil, err
	}
	var out []cloud.LoadBalancer
	for _, lb := range all {
		if deref(lb.Tags[tagCluster]) != p.config.Cluster || lb.Properties == nil {
			continue
		}
		b := cloud.LoadBalancer{ID: deref(lb.ID), Name: deref(lb.Name), Scheme: "internal", Listeners: listeners(lb)}
		if lb.SKU != nil {
			b.Class = strings.ToLower(string(deref(lb.SKU.Name)))
		}
		var public []string
		for _, f := range lb.Properties.FrontendIPConfigurations {
			if f == nil || f.Properties == nil {
				continue
			}
			b.Addresses = append(b.Addresses, survey.Addr(deref(f.Properties.PrivateIPAddress)))
			if f.Properties.PublicIPAddress != nil {
				b.Scheme = "public"
				public = append(public, strings.ToLower(deref(f.Properties.PublicIPAddress.ID)))
			}
		}
		if len(public) > 0 {
			addrs, err := p.publicAddrs(ctx)
			if err != nil {
				s.Gap(survey.WhatAddresses, b.Name, err.Error())
			}
			for _, id := range public {
				b.Addresses = append(b.Addresses, survey.Addr(addrs[id]))
			}
		}
		s.Gap(survey.WhatHealth, b.Name, "Azure tells how the targets of a load balancer are in its metrics alone")
		out = append(out, b)
	}
	return out, nil
}

// publicAddrs returns the public addresses of the resource group by ID.
func (p *Provider) publicAddrs(ctx context.Context) (map[string]string, error) {
	all, err := allPages(ctx, "list public addresses", p.addresses.NewListPager(p.config.ResourceGroup, nil),
		func(page armnetwork.PublicIPAddressesClientListResponse) []*armnetwork.PublicIPAddress {
			return page.Value
		})
	out := map[string]string{}
	for _, a := range all {
		if a.Properties != nil {
			out[strings.ToLower(deref(a.ID))] = deref(a.Properties.IPAddress)
		}
	}
	return out, err
}

// listeners returns the load balancing rules. Targets are the members of the backend pool; the API does not return their
// health.
func listeners(lb *armnetwork.LoadBalancer) (out []cloud.Listener) {
	checks := map[string]string{}
	for _, probe := range lb.Properties.Probes {
		if probe == nil || probe.Properties == nil {
			continue
		}
		checks[strings.ToLower(deref(probe.ID))] = strings.TrimSpace(strings.ToUpper(string(deref(probe.Properties.Protocol))) + " " + deref(probe.Properties.RequestPath))
	}
	pools := map[string][]string{}
	for _, pool := range lb.Properties.BackendAddressPools {
		if pool == nil || pool.Properties == nil {
			continue
		}
		for _, member := range pool.Properties.BackendIPConfigurations {
			if id := machineOf(deref(member.ID)); id != "" {
				pools[strings.ToLower(deref(pool.ID))] = append(pools[strings.ToLower(deref(pool.ID))], id)
			}
		}
	}
	for _, rule := range lb.Properties.LoadBalancingRules {
		if rule == nil || rule.Properties == nil {
			continue
		}
		l := cloud.Listener{
			Port: int(deref(rule.Properties.FrontendPort)), Protocol: strings.ToLower(string(deref(rule.Properties.Protocol))), Targets: []cloud.Target{},
		}
		if rule.Properties.Probe != nil {
			l.Check = checks[strings.ToLower(deref(rule.Properties.Probe.ID))]
		}
		if pool := rule.Properties.BackendAddressPool; pool != nil {
			for _, id := range pools[strings.ToLower(deref(pool.ID))] {
				l.Targets = append(l.Targets, cloud.Target{ID: id, Port: int(deref(rule.Properties.BackendPort)), Health: cloud.TargetUnknown})
			}
		}
		out = append(out, l)
	}
	return out
}

var member = regexp.MustCompile(`(?i)/virtualMachineScaleSets/([^/]+)/virtualMachines/([^/]+)/`)

// machineOf returns the machine of an address configuration, with the ID that [machine] gives it.
func machineOf(id string) string {
	m := member.FindStringSubmatch(id)
	if m == nil {
		return ""
	}
	return m[1] + "_" + m[2]
}

// nameTargets replaces the IDs of targets by those of the instances: Azure's IDs are case-insensitive.
func nameTargets(balancers []cloud.LoadBalancer, groups []cloud.Group) {
	ids := map[string]string{}
	for _, g := range groups {
		for _, in := range g.Instances {
			ids[strings.ToLower(in.ID)] = in.ID
		}
	}
	for _, lb := range balancers {
		for _, l := range lb.Listeners {
			for i, t := range l.Targets {
				if id, ok := ids[strings.ToLower(t.ID)]; ok {
					l.Targets[i].ID = id
				}
			}
		}
	}
}
