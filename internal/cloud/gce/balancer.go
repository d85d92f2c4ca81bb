package gce

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// labelCluster is kOps's label of forwarding rules.
const labelCluster = "k8s-io-cluster-name"

// maxLabel is the maximum length of a label's value.
const maxLabel = 63

// A load balancer consists of forwarding rules: those with the same scheme are reported as one, with a listener per port.
type forwardingRule struct {
	Name                string
	IPAddress           string
	IPProtocol          string
	PortRange           string
	Ports               []string
	LoadBalancingScheme string
	BackendService      string
	Target              string
	Labels              map[string]string
}

// owned reports whether kOps created the rule for the cluster, by its label or, without one as from older releases, by its
// name.
func (f forwardingRule) owned(name string) bool {
	dashed := strings.ReplaceAll(name, ".", "-")
	if v, ok := f.Labels[labelCluster]; ok {
		return v == dashed || truncated(dashed, v, maxLabel)
	}
	return f.Name == "api-"+dashed || f.Name == "kops-controller-"+dashed
}

func (f forwardingRule) portRange() (low, high int, ok bool) {
	if len(f.Ports) > 0 {
		return survey.Ports(f.Ports[0])
	}
	return survey.Ports(f.PortRange)
}

func (s *session) loadBalancers(ctx context.Context, sv *survey.Survey) ([]cloud.LoadBalancer, error) {
	rules, err := list[forwardingRule](ctx, s, "list forwarding rules of "+s.config.Cluster, "aggregated/forwardingRules", "forwardingRules")
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rules, func(a, b forwardingRule) int { return strings.Compare(a.Name, b.Name) })
	byScheme := map[string]*cloud.LoadBalancer{}
	for _, f := range rules {
		if !f.owned(s.config.Cluster) {
			continue
		}
		scheme := "public"
		if f.LoadBalancingScheme == "INTERNAL" {
			scheme = "internal"
		}
		lb := byScheme[scheme]
		if lb == nil {
			lb = &cloud.LoadBalancer{ID: f.Name, Name: f.Name, Class: strings.ToLower(f.LoadBalancingScheme), Scheme: scheme}
			byScheme[scheme] = lb
		}
		if strings.HasPrefix(f.Name, "api-") {
			lb.ID, lb.Name = f.Name, f.Name // named after the API's rule
		}
		lb.Addresses = append(lb.Addresses, survey.Addr(f.IPAddress))
		port, _, ok := f.portRange()
		if _, twice := lb.Listener(port); !ok || twice {
			continue // one rule per subnet, with the same backends
		}
		lb.Listeners = append(lb.Listeners, s.listener(ctx, sv, f, port))
	}
	var out []cloud.LoadBalancer
	for _, lb := range byScheme {
		out = append(out, *lb)
	}
	return out, nil
}

// listener reads the backend of a rule; what cannot be read is a gap.
func (s *session) listener(ctx context.Context, sv *survey.Survey, f forwardingRule, port int) cloud.Listener {
	l := cloud.Listener{Port: port, Protocol: strings.ToLower(f.IPProtocol)}
	if err := s.backend(ctx, cmp.Or(f.BackendService, f.Target), &l); err != nil {
		sv.Gap(survey.WhatHealth, f.Name, err.Error())
	}
	return l
}

type health struct {
	HealthStatus []struct {
		Instance    string
		HealthState string
		Port        int
	}
}

func (h health) targets(port int) (out []cloud.Target) {
	for _, st := range h.HealthStatus {
		t := cloud.Target{ID: lastSegment(st.Instance), Port: port, Health: cloud.TargetUnknown}
		switch st.HealthState {
		case "HEALTHY":
			t.Health = cloud.TargetHealthy
		case "UNHEALTHY":
			t.Health, t.Reason = cloud.TargetUnhealthy, "health check fails"
		case "DRAINING":
			t.Health = cloud.TargetDraining
		}
		out = append(out, t)
	}
	return out
}

// backend reads a backend service or, for a public load balancer, a target pool: its health check, and the health of each
// member, which is an instance group or an instance.
func (s *session) backend(ctx context.Context, link string, l *cloud.Listener) error {
	attempt := "look behind the load balancer at " + lastSegment(link)
	var doc struct {
		HealthChecks []string
		Backends     []struct{ Group string } // of a backend service
		Instances    []string                 // of a target pool
	}
	if err := s.get(ctx, attempt, s.at(link), nil, &doc); err != nil {
		return err
	}
	for _, hc := range doc.HealthChecks {
		var err error
		if l.Check, err = s.check(ctx, hc); err != nil {
			return err
		}
	}
	var members []map[string]string // requests of getHealth
	for _, b := range doc.Backends {
		members = append(members, map[string]string{"group": b.Group})
	}
	for _, i := range doc.Instances {
		members = append(members, map[string]string{"instance": i})
	}
	targets := []cloud.Target{}
	for _, m := range members {
		var h health
		if err := s.get(ctx, attempt, s.at(link)+"/getHealth", m, &h); err != nil {
			return err
		}
		targets = append(targets, h.targets(l.Port)...)
	}
	l.Targets = targets
	return nil
}

type probe struct {
	Port        int
	RequestPath string
}

// check describes a health check.
func (s *session) check(ctx context.Context, link string) (string, error) {
	var c struct {
		Type             string
		Port             int    // of legacy checks
		RequestPath      string // of legacy checks
		TCPHealthCheck   *probe
		SSLHealthCheck   *probe
		HTTPHealthCheck  *probe
		HTTPSHealthCheck *probe
	}
	if err := s.get(ctx, "look at health check "+lastSegment(link), s.at(link), nil, &c); err != nil {
		return "", err
	}
	for _, p := range []*probe{c.TCPHealthCheck, c.SSLHealthCheck, c.HTTPHealthCheck, c.HTTPSHealthCheck} {
		if p != nil {
			return strings.TrimSpace(c.Type + " " + strconv.Itoa(p.Port) + " " + p.RequestPath), nil
		}
	}
	return strings.TrimSpace("HTTP " + strconv.Itoa(c.Port) + " " + c.RequestPath), nil
}
