package openstack

import (
	"context"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// loadBalancers returns the one with kOps's name for the cluster.
func (p *Provider) loadBalancers(ctx context.Context, s *survey.Survey, in *session) ([]cloud.LoadBalancer, error) {
	const attempt = "list load balancers"
	client, err := openstack.NewLoadBalancerV2(in.provider, in.region)
	if err != nil {
		return nil, in.explainEndpoint(attempt, err)
	}
	name := "api." + p.config.Cluster
	page, err := loadbalancers.List(client, loadbalancers.ListOpts{Name: name}).AllPages(ctx)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	all, err := loadbalancers.ExtractLoadBalancers(page)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	var out []cloud.LoadBalancer
	for _, lb := range all {
		if lb.Name != name {
			continue
		}
		b := cloud.LoadBalancer{ID: lb.ID, Name: lb.Name, Class: lb.Provider, Scheme: "internal"}
		b.Addresses = append(b.Addresses, survey.Addr(lb.VipAddress))
		for _, vip := range lb.AdditionalVips {
			b.Addresses = append(b.Addresses, survey.Addr(vip.IPAddress))
		}
		floating, err := p.floating(ctx, in, lb.VipPortID)
		if err != nil {
			s.Gap(survey.WhatAddresses, lb.Name, err.Error())
		}
		if len(floating) > 0 {
			b.Scheme = "public"
			for _, f := range floating {
				b.Addresses = append(b.Addresses, survey.Addr(f.FloatingIP))
			}
		}
		if b.Listeners, err = readListeners(ctx, s, client, lb); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (p *Provider) floating(ctx context.Context, in *session, port string) ([]floatingips.FloatingIP, error) {
	const attempt = "list floating addresses"
	client, err := openstack.NewNetworkV2(in.provider, in.region)
	if err != nil {
		return nil, in.explainEndpoint(attempt, err)
	}
	page, err := floatingips.List(client, floatingips.ListOpts{PortID: port}).AllPages(ctx)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	list, err := floatingips.ExtractFloatingIPs(page)
	return list, rest.Classify(attempt, err)
}

func readListeners(ctx context.Context, s *survey.Survey, client *gophercloud.ServiceClient, lb loadbalancers.LoadBalancer) ([]cloud.Listener, error) {
	attempt := "list listeners of " + lb.Name
	page, err := listeners.List(client, listeners.ListOpts{LoadbalancerID: lb.ID}).AllPages(ctx)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	list, err := listeners.ExtractListeners(page)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	var out []cloud.Listener
	for _, l := range list {
		listener := cloud.Listener{Port: l.ProtocolPort, Protocol: strings.ToLower(l.Protocol)}
		if listener.Targets, err = members(ctx, client, l.DefaultPoolID); err != nil {
			s.Gap(survey.WhatHealth, lb.Name, err.Error())
		}
		if listener.Check, err = check(ctx, client, l.DefaultPoolID); err != nil {
			s.Gap(survey.WhatHealth, lb.Name, err.Error())
		}
		out = append(out, listener)
	}
	return out, nil
}

func members(ctx context.Context, client *gophercloud.ServiceClient, pool string) ([]cloud.Target, error) {
	attempt := "list members of pool " + pool
	if pool == "" {
		return []cloud.Target{}, nil
	}
	page, err := pools.ListMembers(client, pool, pools.ListMembersOpts{}).AllPages(ctx)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	list, err := pools.ExtractMembers(page)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	out := make([]cloud.Target, 0, len(list))
	for _, m := range list {
		t := cloud.Target{ID: m.Address, Port: m.ProtocolPort, Health: targetHealth(m.OperatingStatus)}
		if t.Health != cloud.TargetHealthy {
			t.Reason = strings.ToLower(m.OperatingStatus)
		}
		out = append(out, t)
	}
	return out, nil
}

// targetHealth converts Octavia's operating status. NO_MONITOR gets traffic without being checked, which is not healthy.
func targetHealth(status string) cloud.TargetHealth {
	switch status {
	case "ONLINE":
		return cloud.TargetHealthy
	case "ERROR", "OFFLINE", "DEGRADED":
		return cloud.TargetUnhealthy
	case "DRAINING":
		return cloud.TargetDraining
	}
	return cloud.TargetUnknown
}

func check(ctx context.Context, client *gophercloud.ServiceClient, pool string) (string, error) {
	attempt := "list health monitors of pool " + pool
	if pool == "" {
		return "", nil
	}
	page, err := monitors.List(client, monitors.ListOpts{PoolID: pool}).AllPages(ctx)
	if err != nil {
		return "", rest.Classify(attempt, err)
	}
	list, err := monitors.ExtractMonitors(page)
	if err != nil || len(list) == 0 {
		return "", rest.Classify(attempt, err)
	}
	if m := list[0]; m.URLPath != "" {
		return m.Type + " " + m.URLPath, nil
	}
	return list[0].Type, nil
}
