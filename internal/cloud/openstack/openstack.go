// Package openstack observes a cluster on OpenStack.
//
// kOps creates individual servers with metadata for the cluster, the group, the role, the network, and the generations of
// their specs. Nova returns user-data to administrators only, so for others boot configurations and the credentials in them
// are gaps. The load balancer is Octavia's, with a listener for the API and none for the configuration server.
//
// It is read-only, and logs in for each observation.
package openstack

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// kOps's metadata.
const (
	metaCluster           = "KubernetesCluster"
	metaGroup             = "KopsInstanceGroup"
	metaRole              = "KopsRole"
	metaNetwork           = "KopsNetwork"
	metaGroupGeneration   = "ig_generation"
	metaClusterGeneration = "cluster_generation"
)

const (
	// unreadable is the reason of the gap for a missing boot configuration.
	unreadable = "Nova gives user-data back to administrators only"
	// microversion is Nova's first with user-data.
	microversion = "2.3"
)

// Config identifies the cluster and how to reach the API.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Auth is the login. IdentityEndpoint and credentials are required, except for metadata.
	Auth gophercloud.AuthOptions
	// Region is the cluster's region. Empty: the first of the catalogue.
	Region string
	// Metadata is the base URL of the metadata service. Empty: OpenStack's.
	Metadata string
	// HTTP configures the transport; its Routes are ignored.
	HTTP rest.Transport
}

// FromEnv returns the configuration of a cluster from kOps's environment variables.
func FromEnv(name string, getenv func(string) string) Config {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	return Config{
		Cluster: name,
		Region:  getenv("OS_REGION_NAME"),
		Auth: gophercloud.AuthOptions{
			IdentityEndpoint:            getenv("OS_AUTH_URL"),
			UserID:                      first("OS_USERID", "OS_USER_ID"),
			Username:                    getenv("OS_USERNAME"),
			Password:                    getenv("OS_PASSWORD"),
			TenantID:                    first("OS_PROJECT_ID", "OS_TENANT_ID"),
			TenantName:                  first("OS_PROJECT_NAME", "OS_TENANT_NAME"),
			DomainID:                    first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID", "OS_PROJECT_DOMAIN_ID"),
			DomainName:                  first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME"),
			ApplicationCredentialID:     getenv("OS_APPLICATION_CREDENTIAL_ID"),
			ApplicationCredentialName:   getenv("OS_APPLICATION_CREDENTIAL_NAME"),
			ApplicationCredentialSecret: getenv("OS_APPLICATION_CREDENTIAL_SECRET"),
		},
	}
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct{ config Config }

var _ cloud.Provider = (*Provider)(nil)

var routes = []rest.Route{
	{Method: "POST", Path: "/auth/tokens", Action: "identity login", Login: true},
	{Method: "POST", Path: "/v2.0/tokens", Action: "identity login", Login: true},
	{Method: "GET", Path: "/servers/detail", Action: "compute servers list", Permission: "os_compute_api:servers:detail"},
	{Method: "GET", Path: "/security-groups", Action: "network security-groups list", Permission: "get_security_group"},
	{Method: "GET", Path: "/floatingips", Action: "network floating-ips list", Permission: "get_floatingip"},
	{Method: "GET", Path: "/lbaas/loadbalancers", Action: "load-balancer list", Permission: "os_load-balancer_api:loadbalancer:get_all"},
	{Method: "GET", Path: "/lbaas/listeners", Action: "load-balancer listeners list", Permission: "os_load-balancer_api:listener:get_all"},
	{Method: "GET", Path: "/lbaas/pools/*/members", Action: "load-balancer members list", Permission: "os_load-balancer_api:member:get_all"},
	{Method: "GET", Path: "/lbaas/healthmonitors", Action: "load-balancer monitors list", Permission: "os_load-balancer_api:healthmonitor:get_all"},
	{Method: "GET", Path: "*", Action: "service versions list"},
}

// New returns a provider. It makes no call.
func New(c Config) (*Provider, error) {
	switch a := c.Auth; {
	case c.Cluster == "":
		return nil, fmt.Errorf("openstack: %w: no cluster name", cloud.ErrUsage)
	case a.IdentityEndpoint == "":
		return nil, fmt.Errorf("openstack: %w: no identity service; set OS_AUTH_URL", cloud.ErrUsage)
	case a.Password == "" && a.ApplicationCredentialSecret == "" && a.TokenID == "":
		return nil, fmt.Errorf("openstack: %w: no credentials; set OS_USERNAME and OS_PASSWORD, or OS_APPLICATION_CREDENTIAL_ID and OS_APPLICATION_CREDENTIAL_SECRET", cloud.ErrDenied)
	}
	return &Provider{config: c}, nil
}

// session is one login.
type session struct {
	provider *gophercloud.ProviderClient
	region   gophercloud.EndpointOpts
}

// login logs in. The session is valid for calls under ctx only.
func (p *Provider) login(ctx context.Context) (*session, error) {
	const attempt = "log in to OpenStack"
	client, err := openstack.NewClient(p.config.Auth.IdentityEndpoint)
	if err != nil {
		return nil, fmt.Errorf("%s at %q: %w: %w", attempt, p.config.Auth.IdentityEndpoint, cloud.ErrUsage, err)
	}
	t := p.config.HTTP
	t.Routes = routes
	t.Secrets = []string{p.config.Auth.Password, p.config.Auth.ApplicationCredentialSecret}
	client.HTTPClient = *t.Client()
	client.HTTPClient.Transport = t.Session(ctx)
	client.UserAgent.Prepend("muster")
	if err := openstack.Authenticate(ctx, client, p.config.Auth); err != nil {
		return nil, rest.Classify(attempt, err)
	}
	return &session{provider: client, region: gophercloud.EndpointOpts{Region: p.config.Region}}, nil
}

// Seeds implements [cloud.Provider].
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	s, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	list, err := p.servers(ctx, s)
	if err != nil {
		return nil, err
	}
	return survey.Seeds(p.config.Cluster, p.machines(list))
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, ctx, cancel := survey.Begin(ctx, p.config.Cluster, cluster.OpenStack)
	defer cancel()
	in, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	var (
		list      []servers.Server
		balancers []cloud.LoadBalancer
		secGroups []securityGroup
	)
	err = s.Look(ctx,
		survey.Part{What: survey.WhatInstances, Look: func(ctx context.Context) (err error) {
			list, err = p.servers(ctx, in)
			return err
		}},
		survey.Part{What: survey.WhatLoadBalancers, Look: func(ctx context.Context) (err error) {
			balancers, err = p.loadBalancers(ctx, s, in)
			return err
		}},
		survey.Part{What: survey.WhatNetwork, Look: func(ctx context.Context) (err error) {
			secGroups, err = p.securityGroups(ctx, in)
			return err
		}},
	)
	if err != nil {
		return nil, err
	}
	machines := p.machines(list)
	survey.NameTargets(balancers, machines)
	groups := s.Groups(machines, unreadable)
	return s.Finish(cloud.Observation{
		Groups:        groups,
		LoadBalancers: balancers,
		Network:       p.network(list, secGroups, s.Missing(survey.WhatNetwork) || s.Missing(survey.WhatInstances)),
		Roles:         s.Tokens(groups),
	}), nil
}

// servers lists the cluster's servers. Nova cannot filter by metadata, so all of the project's are read.
func (p *Provider) servers(ctx context.Context, s *session) ([]servers.Server, error) {
	attempt := "list servers of " + p.config.Cluster
	client, err := openstack.NewComputeV2(s.provider, s.region)
	if err != nil {
		return nil, s.explainEndpoint(attempt, err)
	}
	client.Microversion = microversion
	page, err := servers.List(client, servers.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, rest.Classify(attempt, err)
	}
	all, err := servers.ExtractServers(page)
	return slices.DeleteFunc(all, func(s servers.Server) bool { return s.Metadata[metaCluster] != p.config.Cluster }),
		rest.Classify(attempt, err)
}

// explainEndpoint explains that the catalogue does not have a service.
func (s *session) explainEndpoint(attempt string, err error) error {
	if missing := new(gophercloud.ErrEndpointNotFound); errors.As(err, &missing) {
		return fmt.Errorf("%s: %w: the catalogue has no such service in region %q", attempt, cloud.ErrUsage, s.region.Region)
	}
	return rest.Classify(attempt, err)
}

func (p *Provider) machines(list []servers.Server) []survey.Machine {
	out := make([]survey.Machine, 0, len(list))
	for _, s := range list {
		m := survey.Machine{
			Instance: cloud.Instance{
				ID: s.ID, Name: s.Name, Zone: s.AvailabilityZone, State: strings.ToLower(s.Status), Launched: s.Created,
				Addr: p.fixedAddr(s),
			},
			Group: s.Metadata[metaGroup],
			Role:  survey.Role(s.Metadata[metaRole]),
		}
		if g, c := s.Metadata[metaGroupGeneration], s.Metadata[metaClusterGeneration]; g != "" && c != "" {
			m.Fingerprint = c + "-" + g
		}
		switch s.Status {
		case "ACTIVE", "BUILD", "REBUILD", "REBOOT", "HARD_REBOOT":
			m.Alive = true
		}
		if s.Userdata != nil {
			// Nova returns base64; anything else is used as it is
			data, err := base64.StdEncoding.DecodeString(*s.Userdata)
			if err != nil {
				data = []byte(*s.Userdata)
			}
			m.UserData = data
		}
		out = append(out, m)
	}
	return out
}

// fixedAddr returns a server's fixed address on the network in its metadata, or else the one with the cluster's name.
func (p *Provider) fixedAddr(s servers.Server) netip.Addr {
	network := s.Metadata[metaNetwork]
	if network == "" {
		network = p.config.Cluster
	}
	list, _ := s.Addresses[network].([]any)
	var fallback netip.Addr
	for _, entry := range list {
		e, _ := entry.(map[string]any)
		text, _ := e["addr"].(string)
		if kind, ok := e["OS-EXT-IPS:type"].(string); ok && kind != "fixed" {
			continue
		}
		a := survey.Addr(text)
		if a.Is4() {
			return a
		}
		if !fallback.IsValid() {
			fallback = a
		}
	}
	return fallback
}
