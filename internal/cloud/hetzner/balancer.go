package hetzner

import (
	"context"
	"strconv"
	"strings"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

func (p *Provider) loadBalancers(ctx context.Context) ([]cloud.LoadBalancer, error) {
	all, err := p.client.LoadBalancer.AllWithOpts(ctx, hcloud.LoadBalancerListOpts{ListOpts: p.selection("")})
	if err != nil {
		return nil, rest.Classify("list load balancers of "+p.config.Cluster, err)
	}
	out := make([]cloud.LoadBalancer, 0, len(all))
	for _, lb := range all {
		out = append(out, loadBalancer(lb))
	}
	return out, nil
}

func loadBalancer(lb *hcloud.LoadBalancer) cloud.LoadBalancer {
	out := cloud.LoadBalancer{ID: strconv.FormatInt(lb.ID, 10), Name: lb.Name, Scheme: "internal"}
	if lb.LoadBalancerType != nil {
		out.Class = lb.LoadBalancerType.Name
	}
	if lb.PublicNet.Enabled {
		out.Scheme = "public"
		out.Addresses = append(out.Addresses, survey.Addr(lb.PublicNet.IPv4.IP.String()), survey.Addr(lb.PublicNet.IPv6.IP.String()))
	}
	for _, n := range lb.PrivateNet {
		out.Addresses = append(out.Addresses, survey.Addr(n.IP.String()))
	}
	for _, service := range lb.Services {
		l := cloud.Listener{
			Port:     service.ListenPort,
			Protocol: string(service.Protocol),
			Check:    check(service.HealthCheck),
			Targets:  []cloud.Target{},
		}
		for _, t := range flatten(lb.Targets) {
			l.Targets = append(l.Targets, target(t, service))
		}
		out.Listeners = append(out.Listeners, l)
	}
	return out
}

// flatten replaces label selectors by the servers that they select.
func flatten(targets []hcloud.LoadBalancerTarget) (out []hcloud.LoadBalancerTarget) {
	for _, t := range targets {
		if t.Type == hcloud.LoadBalancerTargetTypeLabelSelector {
			out = append(out, flatten(t.Targets)...)
			continue
		}
		out = append(out, t)
	}
	return out
}

func target(t hcloud.LoadBalancerTarget, service hcloud.LoadBalancerService) cloud.Target {
	out := cloud.Target{Port: service.DestinationPort, Health: cloud.TargetUnknown}
	switch {
	case t.Server != nil && t.Server.Server != nil:
		out.ID = strconv.FormatInt(t.Server.Server.ID, 10)
	case t.IP != nil:
		out.ID = t.IP.IP
	}
	for _, h := range t.HealthStatus {
		if h.ListenPort != service.ListenPort {
			continue
		}
		switch h.Status {
		case hcloud.LoadBalancerTargetHealthStatusStatusHealthy:
			out.Health = cloud.TargetHealthy
		case hcloud.LoadBalancerTargetHealthStatusStatusUnhealthy:
			out.Health = cloud.TargetUnhealthy
		}
		if h.Detail != nil {
			out.Reason = string(*h.Detail)
		}
	}
	return out
}

func check(c hcloud.LoadBalancerServiceHealthCheck) string {
	protocol := strings.ToUpper(string(c.Protocol))
	if c.HTTP == nil {
		return protocol
	}
	if c.HTTP.TLS {
		protocol = "HTTPS"
	}
	return protocol + " " + c.HTTP.Path
}
