// Package hetzner observes a cluster in Hetzner Cloud.
//
// kOps creates individual servers with labels for the cluster, the group, the role, a hash of the user-data, and whether
// they need an update. The API does not return user-data, so boot configurations and the tokens in them are gaps. Firewalls
// filter the public interface only; private networks are not filtered.
//
// It is read-only: a token of kind "read" suffices.
package hetzner

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// kOps's labels.
const (
	labelCluster      = "kops.k8s.io/cluster"
	labelGroup        = "kops.k8s.io/instance-group"
	labelRole         = "kops.k8s.io/instance-role"
	labelUserData     = "kops.k8s.io/instance-userdata"
	labelNeedsUpdate  = "kops.k8s.io/needs-update"
	labelFirewallRole = "kops.k8s.io/firewall-role"
)

// perPage is the API's maximum page size.
const perPage = 50

// unreadable is the reason of the gap for a missing boot configuration.
const unreadable = "the API of Hetzner does not give user-data back"

// Config identifies the cluster and how to reach the API.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Token is an API token of the project; one of kind "read" suffices. Required, except for metadata.
	Token string
	// Endpoint is the API's base URL. Empty: Hetzner's.
	Endpoint string
	// Metadata is the base URL of the metadata service. Empty: Hetzner's.
	Metadata string
	// HTTP configures the transport; its Routes are ignored.
	HTTP rest.Transport
}

// FromEnv returns the configuration of a cluster from kOps's environment variables.
func FromEnv(name string, getenv func(string) string) Config {
	return Config{Cluster: name, Token: getenv("HCLOUD_TOKEN"), Endpoint: getenv("HCLOUD_ENDPOINT")}
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct {
	config Config
	client *hcloud.Client
}

var _ cloud.Provider = (*Provider)(nil)

// New returns a provider. It makes no call.
func New(c Config) (*Provider, error) {
	if c.Cluster == "" {
		return nil, fmt.Errorf("hetzner: %w: no cluster name", cloud.ErrUsage)
	}
	if c.Token == "" {
		return nil, fmt.Errorf("hetzner: %w: no API token; set HCLOUD_TOKEN", cloud.ErrDenied)
	}
	t := c.HTTP
	t.Routes = routes
	options := []hcloud.ClientOption{
		hcloud.WithToken(c.Token),
		hcloud.WithHTTPClient(t.Client()),
		hcloud.WithRetryOpts(hcloud.RetryOpts{BackoffFunc: hcloud.ConstantBackoff(0)}), // the transport retries
		hcloud.WithApplication("muster", ""),
	}
	if c.Endpoint != "" {
		options = append(options, hcloud.WithEndpoint(c.Endpoint))
	}
	return &Provider{config: c, client: hcloud.NewClient(options...)}, nil
}

var routes = []rest.Route{
	{Method: "GET", Path: "/servers", Action: "servers.list", Permission: "token:read"},
	{Method: "GET", Path: "/servers/*", Action: "servers.get", Permission: "token:read"},
	{Method: "GET", Path: "/load_balancers", Action: "load_balancers.list", Permission: "token:read"},
	{Method: "GET", Path: "/firewalls", Action: "firewalls.list", Permission: "token:read"},
}

// Seeds implements [cloud.Provider].
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	machines, err := p.machines(ctx, ","+labelRole+"="+string(cluster.RoleControlPlane))
	if err != nil {
		return nil, err
	}
	return survey.Seeds(p.config.Cluster, machines)
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, ctx, cancel := survey.Begin(ctx, p.config.Cluster, cluster.Hetzner)
	defer cancel()
	var (
		machines  []survey.Machine
		balancers []cloud.LoadBalancer
		firewalls []*hcloud.Firewall
	)
	err := s.Look(ctx,
		survey.Part{What: survey.WhatInstances, Look: func(ctx context.Context) (err error) {
			machines, err = p.machines(ctx, "")
			return err
		}},
		survey.Part{What: survey.WhatLoadBalancers, Look: func(ctx context.Context) (err error) {
			balancers, err = p.loadBalancers(ctx)
			return err
		}},
		survey.Part{What: survey.WhatNetwork, Look: func(ctx context.Context) (err error) {
			firewalls, err = p.firewalls(ctx)
			return err
		}},
	)
	if err != nil {
		return nil, err
	}
	groups := s.Groups(machines, unreadable)
	return s.Finish(cloud.Observation{
		Groups:        groups,
		LoadBalancers: balancers,
		Network:       network(machines, balancers, firewalls, s.Missing(survey.WhatNetwork)),
		Roles:         s.Tokens(groups),
	}), nil
}

// machines lists the cluster's servers that match a further label selector, which begins with a comma or is empty.
func (p *Provider) machines(ctx context.Context, selector string) ([]survey.Machine, error) {
	servers, err := p.client.Server.AllWithOpts(ctx, hcloud.ServerListOpts{ListOpts: p.selection(selector)})
	if err != nil {
		return nil, rest.Classify("list servers of "+p.config.Cluster, err)
	}
	machines := make([]survey.Machine, 0, len(servers))
	for _, s := range servers {
		machines = append(machines, machine(s))
	}
	return machines, nil
}

func (p *Provider) selection(selector string) hcloud.ListOpts {
	return hcloud.ListOpts{PerPage: perPage, LabelSelector: labelCluster + "=" + p.config.Cluster + selector}
}

func machine(s *hcloud.Server) survey.Machine {
	_, outdated := s.Labels[labelNeedsUpdate]
	m := survey.Machine{
		Instance: cloud.Instance{
			ID:       strconv.FormatInt(s.ID, 10),
			Name:     s.Name,
			State:    string(s.Status),
			Launched: s.Created,
		},
		Group:       s.Labels[labelGroup],
		Role:        survey.Role(s.Labels[labelRole]),
		Fingerprint: s.Labels[labelUserData],
		Outdated:    outdated,
	}
	if s.Location != nil {
		m.Zone = s.Location.Name
	}
	if len(s.PrivateNet) > 0 {
		m.Addr = survey.Addr(s.PrivateNet[0].IP.String())
	}
	switch s.Status {
	case hcloud.ServerStatusInitializing, hcloud.ServerStatusStarting, hcloud.ServerStatusRunning, hcloud.ServerStatusMigrating:
		m.Alive = true
	}
	return m
}
