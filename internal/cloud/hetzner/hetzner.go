// Package hetzner sees a cluster in Hetzner Cloud.
//
// kOps makes servers one by one there and writes what they are into labels: the
// cluster, the group, the role, a hash of the user-data, and a mark on servers
// that need an update. The API never gives user-data back, so boot
// configurations and the tokens in them are gaps. Firewalls of Hetzner filter
// the public interface only; a private network lets everything through.
//
// It only reads. It writes nothing and needs a token of kind "read".
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

// The labels of kOps.
const (
	labelCluster      = "kops.k8s.io/cluster"
	labelGroup        = "kops.k8s.io/instance-group"
	labelRole         = "kops.k8s.io/instance-role"
	labelUserData     = "kops.k8s.io/instance-userdata"
	labelNeedsUpdate  = "kops.k8s.io/needs-update"
	labelFirewallRole = "kops.k8s.io/firewall-role"
)

// perPage is the API's limit.
const perPage = 50

// unreadable is why there is no boot configuration.
const unreadable = "the API of Hetzner does not give user-data back"

// Config says which cluster and how to get there.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Token is an API token of the project, "read" is enough. Required, except
	// for metadata.
	Token string
	// Endpoint is the API's base URL. Empty: Hetzner's own.
	Endpoint string
	// Metadata is the base URL of the metadata service. Empty: Hetzner's own.
	Metadata string
	// HTTP tunes how calls are made; its Routes are not looked at.
	HTTP rest.Transport
}

// FromEnv is the configuration of a cluster as kOps's variables give it.
func FromEnv(name string, getenv func(string) string) Config {
	return Config{Cluster: name, Token: getenv("HCLOUD_TOKEN"), Endpoint: getenv("HCLOUD_ENDPOINT")}
}

// Provider looks at one cluster. It is safe for concurrent use.
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
		hcloud.WithRetryOpts(hcloud.RetryOpts{BackoffFunc: hcloud.ConstantBackoff(0)}), // the transport tries again
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

// machines lists the cluster's servers, every page; more narrows the selection.
func (p *Provider) machines(ctx context.Context, more string) ([]survey.Machine, error) {
	servers, err := p.client.Server.AllWithOpts(ctx, hcloud.ServerListOpts{ListOpts: p.selection(more)})
	if err != nil {
		return nil, rest.Classify("list servers of "+p.config.Cluster, err)
	}
	machines := make([]survey.Machine, 0, len(servers))
	for _, s := range servers {
		machines = append(machines, machine(s))
	}
	return machines, nil
}

func (p *Provider) selection(more string) hcloud.ListOpts {
	return hcloud.ListOpts{PerPage: perPage, LabelSelector: labelCluster + "=" + p.config.Cluster + more}
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
		Group:    s.Labels[labelGroup],
		Role:     survey.Role(s.Labels[labelRole]),
		Mark:     s.Labels[labelUserData],
		Outdated: outdated,
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
