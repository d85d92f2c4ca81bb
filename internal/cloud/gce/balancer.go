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

// labelCluster is how kOps marks forwarding rules.
const labelCluster = "k8s-io-cluster-name"

// maxLabel is the longest that the value of a label may be.
const maxLabel = 63

// A load balancer here is its forwarding rules: those with the same scheme are
// one to us, with a listener a port.
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

// owned says whether kOps made the rule for the cluster: by its label, or by its
// name where an older kOps put no label.
func (f forwardingRule) owned(name string) bool {
	dashed := strings.ReplaceAll(name, ".", "-")
	if v, ok := f.Labels[labelCluster]; ok {
		return v == dashed || shortened(dashed, v, maxLabel)
	}
	return f.Name == "api-"+dashed || f.Name == "kops-controller-"+dashed
}

func (f forwardingRule) listens() (low, high int, ok bool) {
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
			lb.ID, lb.Name = f.Name, f.Name // the API's rule names them all
		}
		lb.Addresses = append(lb.Addresses, survey.Addr(f.IPAddress))
		port, _, ok := f.listens()
		if _, twice := lb.Listener(port); !ok || twice {
			continue // a rule a subnet, with the same backends behind
		}
		lb.Listeners = append(lb.Listeners, s.listener(ctx, sv, f, port))
	}
	var out []cloud.LoadBalancer
	for _, lb := range byScheme {
		out = append(out, *lb)
	}
	return out, nil
}

// listener looks behind a rule; what cannot be read is a gap.
func (s *session) listener(ctx context.Context, sv *survey.Survey, f forwardingRule, port int) cloud.Listener {
	l := cloud.Listener{Port: port, Protocol: strings.ToLower(f.IPProtocol)}
	if err := s.behind(ctx, cmp.Or(f.BackendService, f.Target), &l); err != nil {
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
		t := cloud.Target{ID: last(st.Instance), Port: port, Health: cloud.TargetUnknown}
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

// behind reads a backend service or, where a public load balancer has it, a
// target pool: its check, and the health of each member, a group of instances or
// one instance.
func (s *session) behind(ctx context.Context, link string, l *cloud.Listener) error {
	attempt := "look behind the load balancer at " + last(link)
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
	var members []map[string]string // as getHealth wants to be asked
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

// check says what a health check does.
func (s *session) check(ctx context.Context, link string) (string, error) {
	var c struct {
		Type             string
		Port             int    // of the older kind
		RequestPath      string // of the older kind
		TCPHealthCheck   *probe
		SSLHealthCheck   *probe
		HTTPHealthCheck  *probe
		HTTPSHealthCheck *probe
	}
	if err := s.get(ctx, "look at health check "+last(link), s.at(link), nil, &c); err != nil {
		return "", err
	}
	for _, p := range []*probe{c.TCPHealthCheck, c.SSLHealthCheck, c.HTTPHealthCheck, c.HTTPSHealthCheck} {
		if p != nil {
			return strings.TrimSpace(c.Type + " " + strconv.Itoa(p.Port) + " " + p.RequestPath), nil
		}
	}
	return strings.TrimSpace("HTTP " + strconv.Itoa(c.Port) + " " + c.RequestPath), nil
}
