package scaleway

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/scaleway/scaleway-sdk-go/api/lb/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// loadBalancers returns the one with kOps's name for the cluster, in any zone.
func (p *Provider) loadBalancers(ctx context.Context, s *survey.Survey) ([]cloud.LoadBalancer, error) {
	name := "api." + p.config.Cluster
	var mu sync.Mutex
	var out []cloud.LoadBalancer // under mu
	err := survey.Each(ctx, p.zones, func(ctx context.Context, _ int, zone scw.Zone) error {
		r, err := p.balancers.ListLBs(&lb.ZonedAPIListLBsRequest{Zone: zone, Name: &name, ProjectID: p.project()},
			scw.WithContext(ctx), scw.WithAllPages())
		if err != nil {
			return rest.Classify(fmt.Sprintf("list load balancers in %s", zone), err)
		}
		for _, b := range r.LBs {
			if b.Name != name {
				continue // the API matches substrings
			}
			listeners, err := p.listeners(ctx, s, b)
			if err != nil {
				return err
			}
			mu.Lock()
			out = append(out, loadBalancer(b, listeners))
			mu.Unlock()
		}
		return nil
	})
	return out, err
}

func loadBalancer(b *lb.LB, listeners []cloud.Listener) cloud.LoadBalancer {
	out := cloud.LoadBalancer{ID: b.ID, Name: b.Name, Class: strings.ToLower(b.Type), Scheme: "internal", Listeners: listeners}
	for _, ip := range b.IP {
		addr := survey.Addr(ip.IPAddress)
		if addr.IsValid() && !addr.IsPrivate() {
			out.Scheme = "public"
		}
		out.Addresses = append(out.Addresses, addr)
	}
	return out
}

// listeners reads the frontends and the health of their servers; if that cannot be read it is a gap.
func (p *Provider) listeners(ctx context.Context, s *survey.Survey, b *lb.LB) ([]cloud.Listener, error) {
	fronts, err := p.balancers.ListFrontends(&lb.ZonedAPIListFrontendsRequest{Zone: b.Zone, LBID: b.ID},
		scw.WithContext(ctx), scw.WithAllPages())
	if err != nil {
		return nil, rest.Classify("list frontends of "+b.Name, err)
	}
	health := map[[2]string]*lb.BackendServerStats{}
	stats, err := p.balancers.ListBackendStats(&lb.ZonedAPIListBackendStatsRequest{Zone: b.Zone, LBID: b.ID},
		scw.WithContext(ctx), scw.WithAllPages())
	if err = rest.Classify("list backend statistics of "+b.Name, err); err != nil {
		s.Gap(survey.WhatHealth, b.Name, err.Error())
	} else {
		for _, st := range stats.BackendServersStats {
			health[[2]string{st.BackendID, st.IP}] = st
		}
	}
	var out []cloud.Listener
	for _, f := range fronts.Frontends {
		l := cloud.Listener{Port: int(f.InboundPort), Protocol: "tcp", Targets: []cloud.Target{}}
		if f.Backend != nil {
			l.Protocol = string(f.Backend.ForwardProtocol)
			l.Check = check(f.Backend.HealthCheck)
			for _, ip := range f.Backend.Pool {
				t := cloud.Target{ID: ip, Port: int(f.Backend.ForwardPort), Health: cloud.TargetUnknown}
				if st := health[[2]string{f.Backend.ID, ip}]; st != nil {
					t.Health, t.Reason = targetHealth(st)
				}
				l.Targets = append(l.Targets, t)
			}
		}
		out = append(out, l)
	}
	return out, nil
}

func targetHealth(st *lb.BackendServerStats) (cloud.TargetHealth, string) {
	switch {
	case st.ServerState == lb.BackendServerStatsServerStateStopping:
		return cloud.TargetDraining, ""
	case st.ServerState == lb.BackendServerStatsServerStateStarting:
		return cloud.TargetInitial, ""
	case st.LastHealthCheckStatus == lb.BackendServerStatsHealthCheckStatusFailed,
		st.ServerState == lb.BackendServerStatsServerStateStopped:
		return cloud.TargetUnhealthy, "last check " + string(st.LastHealthCheckStatus)
	case st.LastHealthCheckStatus == lb.BackendServerStatsHealthCheckStatusPassed,
		st.LastHealthCheckStatus == lb.BackendServerStatsHealthCheckStatusCondpass:
		return cloud.TargetHealthy, ""
	}
	return cloud.TargetUnknown, "last check " + string(st.LastHealthCheckStatus)
}

func check(c *lb.HealthCheck) string {
	switch {
	case c == nil:
		return ""
	case c.HTTPSConfig != nil:
		return "HTTPS " + c.HTTPSConfig.URI
	case c.HTTPConfig != nil:
		return "HTTP " + c.HTTPConfig.URI
	case c.TCPConfig != nil:
		return "TCP"
	}
	return "other"
}
