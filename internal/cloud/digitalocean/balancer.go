package digitalocean

import (
	"context"
	"strconv"
	"strings"

	"github.com/digitalocean/godo"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// loadBalancers returns the one that kOps names after the cluster.
func (p *Provider) loadBalancers(ctx context.Context) ([]cloud.LoadBalancer, error) {
	all, err := allPages(ctx, "list load balancers", p.client.LoadBalancers.List)
	if err != nil {
		return nil, err
	}
	var out []cloud.LoadBalancer
	for _, lb := range all {
		if lb.Name == "api-"+hyphenated(p.config.Cluster) {
			out = append(out, loadBalancer(lb))
		}
	}
	return out, nil
}

func loadBalancer(lb godo.LoadBalancer) cloud.LoadBalancer {
	out := cloud.LoadBalancer{ID: lb.ID, Name: lb.Name, Class: strings.ToLower(lb.Type), Scheme: "public"}
	if out.Class == "" {
		out.Class = "regional" // the API omits this type
	}
	if lb.Network == godo.LoadBalancerNetworkTypeInternal {
		out.Scheme = "internal"
	}
	out.Addresses = append(out.Addresses, survey.Addr(lb.IP), survey.Addr(lb.IPv6))
	for _, rule := range lb.ForwardingRules {
		l := cloud.Listener{Port: rule.EntryPort, Protocol: rule.EntryProtocol, Check: check(lb.HealthCheck), Targets: []cloud.Target{}}
		for _, id := range lb.DropletIDs {
			l.Targets = append(l.Targets, cloud.Target{ID: strconv.Itoa(id), Port: rule.TargetPort, Health: cloud.TargetUnknown})
		}
		out.Listeners = append(out.Listeners, l)
	}
	return out
}

// check describes the health check, which all ports share.
func check(c *godo.HealthCheck) string {
	if c == nil {
		return ""
	}
	text := strings.ToUpper(c.Protocol) + " " + strconv.Itoa(c.Port)
	if c.Protocol != "tcp" {
		text += " " + c.Path
	}
	return text
}
