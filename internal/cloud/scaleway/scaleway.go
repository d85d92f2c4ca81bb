// Package scaleway observes a cluster on Scaleway.
//
// kOps creates individual servers with tags for the cluster, the group, the role, and whether they need an update. Servers
// are listed zone by zone; their addresses come from the region's IPAM. The API returns user-data, server by server, with
// secrets, of which only the names are kept.
//
// It is read-only.
package scaleway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/scaleway/scaleway-sdk-go/api/instance/v1"
	"github.com/scaleway/scaleway-sdk-go/api/ipam/v1"
	"github.com/scaleway/scaleway-sdk-go/api/lb/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// kOps's tags. Scaleway's controller would prefix tags without noprefix.
const (
	tagCluster     = "noprefix=kops.k8s.io/cluster"
	tagGroup       = "noprefix=kops.k8s.io/instance-group"
	tagRole        = "noprefix=kops.k8s.io/role"
	tagNeedsUpdate = "noprefix=kops.k8s.io/needs-update"
)

const (
	// userDataKey is the key of the boot script in user-data.
	userDataKey = "cloud-init"
	// unreadable is the reason of the gap for a missing boot configuration.
	unreadable = "the server has no user-data " + userDataKey + ", or it could not be read"
)

// Config identifies the cluster and how to reach the API.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// AccessKey and SecretKey are an API key that may read instances, addresses
	// and load balancers. Required, except for metadata.
	AccessKey, SecretKey string
	// Project is the ID of the cluster's project. Empty: all that the key may read.
	Project string
	// Region is the cluster's region. Empty: all regions.
	Region string
	// Endpoint is the API's base URL. Empty: Scaleway's.
	Endpoint string
	// Metadata is the base URL of the metadata service. Empty: Scaleway's.
	Metadata string
	// HTTP configures the transport; its Routes are ignored.
	HTTP rest.Transport
}

// FromEnv returns the configuration of a cluster from kOps's environment variables.
func FromEnv(name string, getenv func(string) string) Config {
	c := Config{
		Cluster:   name,
		AccessKey: getenv("SCW_ACCESS_KEY"),
		SecretKey: getenv("SCW_SECRET_KEY"),
		Project:   getenv("SCW_DEFAULT_PROJECT_ID"),
		Region:    getenv("SCW_DEFAULT_REGION"),
		Endpoint:  getenv("SCW_API_URL"),
	}
	if region, err := scw.Zone(getenv("SCW_DEFAULT_ZONE")).Region(); err == nil && c.Region == "" {
		c.Region = string(region)
	}
	return c
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct {
	config    Config
	zones     []scw.Zone
	instances *instance.API
	addresses *ipam.API
	balancers *lb.ZonedAPI
}

var _ cloud.Provider = (*Provider)(nil)

var routes = []rest.Route{
	{Method: "GET", Path: "/zones/*/servers", Action: "instance.ListServers", Permission: "InstancesReadOnly"},
	{Method: "GET", Path: "/servers/*/user_data/*", Action: "instance.GetServerUserData", Permission: "InstancesReadOnly"},
	{Method: "GET", Path: "/security_groups/*", Action: "instance.GetSecurityGroup", Permission: "InstancesReadOnly"},
	{Method: "GET", Path: "/security_groups/*/rules", Action: "instance.ListSecurityGroupRules", Permission: "InstancesReadOnly"},
	{Method: "GET", Path: "/regions/*/ips", Action: "ipam.ListIPs", Permission: "IPAMReadOnly"},
	{Method: "GET", Path: "/zones/*/lbs", Action: "lb.ListLBs", Permission: "LoadBalancersReadOnly"},
	{Method: "GET", Path: "/lbs/*/frontends", Action: "lb.ListFrontends", Permission: "LoadBalancersReadOnly"},
	{Method: "GET", Path: "/lbs/*/backend-stats", Action: "lb.ListBackendStats", Permission: "LoadBalancersReadOnly"},
}

// New returns a provider. It makes no call.
func New(c Config) (*Provider, error) {
	if c.Cluster == "" {
		return nil, fmt.Errorf("scaleway: %w: no cluster name", cloud.ErrUsage)
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return nil, fmt.Errorf("scaleway: %w: no API key; set SCW_ACCESS_KEY and SCW_SECRET_KEY", cloud.ErrDenied)
	}
	zones := scw.AllZones
	if c.Region != "" {
		if zones = scw.Region(c.Region).GetZones(); len(zones) == 0 {
			return nil, fmt.Errorf("scaleway: %w: there is no region %q; it is one of %v", cloud.ErrUsage, c.Region, scw.AllRegions)
		}
	}
	t := c.HTTP
	t.Routes = routes
	options := []scw.ClientOption{
		scw.WithAuth(c.AccessKey, c.SecretKey),
		scw.WithHTTPClient(t.Client()),
		scw.WithUserAgent("muster"),
		scw.WithDefaultPageSize(100),
	}
	if c.Endpoint != "" {
		options = append(options, scw.WithAPIURL(strings.TrimSuffix(c.Endpoint, "/")))
	}
	client, err := scw.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("scaleway: %w: %s", cloud.ErrUsage, rest.Redact(err.Error(), c.SecretKey, c.AccessKey))
	}
	return &Provider{
		config: c, zones: zones,
		instances: instance.NewAPI(client), addresses: ipam.NewAPI(client), balancers: lb.NewZonedAPI(client),
	}, nil
}

// Seeds implements [cloud.Provider].
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	servers, err := p.servers(ctx, tagRole+"="+string(cluster.RoleControlPlane))
	if err != nil {
		return nil, err
	}
	machines, err := p.machines(ctx, servers)
	if err != nil {
		return nil, err
	}
	return survey.Seeds(p.config.Cluster, machines)
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, ctx, cancel := survey.Begin(ctx, p.config.Cluster, cluster.Scaleway)
	defer cancel()
	var (
		machines  []survey.Machine
		balancers []cloud.LoadBalancer
		network   = cloud.Network{Partial: true}
	)
	err := s.Look(ctx,
		survey.Part{What: survey.WhatInstances, Look: func(ctx context.Context) error {
			servers, err := p.servers(ctx)
			if err != nil {
				return err
			}
			if machines, err = p.machines(ctx, servers); err != nil {
				s.Gap(survey.WhatAddresses, "", err.Error()) // continue with the addresses in the list
			}
			p.userData(ctx, s, servers, machines)
			if network, err = p.network(ctx, servers); err != nil {
				s.Gap(survey.WhatNetwork, "", err.Error())
			}
			return nil
		}},
		survey.Part{What: survey.WhatLoadBalancers, Look: func(ctx context.Context) (err error) {
			balancers, err = p.loadBalancers(ctx, s)
			return err
		}},
	)
	if err != nil {
		return nil, err
	}
	survey.NameTargets(balancers, machines)
	groups := s.Groups(machines, unreadable)
	return s.Finish(cloud.Observation{
		Groups:        groups,
		LoadBalancers: balancers,
		Network:       network,
		Roles:         s.Tokens(groups),
	}), nil
}

// project is the filter for a list call.
func (p *Provider) project() *string {
	if p.config.Project == "" {
		return nil
	}
	return &p.config.Project
}

// servers lists the cluster's servers with further tags in all zones. The SDK's own iteration over zones would drop their
// errors.
func (p *Provider) servers(ctx context.Context, extraTags ...string) ([]*instance.Server, error) {
	tags := append([]string{tagCluster + "=" + p.config.Cluster}, extraTags...)
	lists := make([][]*instance.Server, len(p.zones))
	err := survey.Each(ctx, p.zones, func(ctx context.Context, i int, zone scw.Zone) error {
		r, err := p.instances.ListServers(&instance.ListServersRequest{Zone: zone, Project: p.project(), Tags: tags},
			scw.WithContext(ctx), scw.WithAllPages())
		if err != nil {
			return rest.Classify(fmt.Sprintf("list servers of %s in %s", p.config.Cluster, zone), err)
		}
		lists[i] = r.Servers
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := slices.Concat(lists...)
	return slices.DeleteFunc(all, func(s *instance.Server) bool {
		return slices.ContainsFunc(tags, func(t string) bool { return !slices.Contains(s.Tags, t) })
	}), nil
}

// machines converts servers. If their addresses cannot be read, it returns both the machines without and the error.
func (p *Provider) machines(ctx context.Context, servers []*instance.Server) ([]survey.Machine, error) {
	addrs, err := p.addrs(ctx, servers)
	machines := make([]survey.Machine, 0, len(servers))
	for _, s := range servers {
		m := survey.Machine{
			Instance: cloud.Instance{ID: s.ID, Name: s.Name, Zone: string(s.Zone), State: string(s.State), Addr: addrs[s.ID]},
			Group:    tagValue(s.Tags, tagGroup),
			Role:     survey.Role(tagValue(s.Tags, tagRole)),
			Alive:    s.State == instance.ServerStateRunning || s.State == instance.ServerStateStarting,
			Outdated: slices.Contains(s.Tags, tagNeedsUpdate),
		}
		if s.CreationDate != nil {
			m.Launched = *s.CreationDate
		}
		if !m.Addr.IsValid() && s.PrivateIP != nil {
			m.Addr = survey.Addr(*s.PrivateIP) // of servers without routed addresses
		}
		machines = append(machines, m)
	}
	return machines, err
}

// addrs returns the first IPv4 address of each server, like kOps, with one list per zone instead of a call per server.
func (p *Provider) addrs(ctx context.Context, servers []*instance.Server) (map[string]netip.Addr, error) {
	var zones []scw.Zone
	wanted := map[string]bool{}
	for _, s := range servers {
		wanted[s.ID] = true
		if !slices.Contains(zones, s.Zone) {
			zones = append(zones, s.Zone)
		}
	}
	var mu sync.Mutex
	addrs := map[string]netip.Addr{} // under mu
	v4 := false
	err := survey.Each(ctx, zones, func(ctx context.Context, _ int, zone scw.Zone) error {
		region, err := zone.Region()
		if err != nil {
			return fmt.Errorf("zone %q: %w: %w", zone, cloud.ErrUsage, err)
		}
		r, err := p.addresses.ListIPs(&ipam.ListIPsRequest{
			Region: region, ProjectID: p.project(), Zonal: new(string(zone)), IsIPv6: &v4, ResourceType: ipam.ResourceTypeInstanceServer,
		}, scw.WithContext(ctx), scw.WithAllPages())
		if err != nil {
			return rest.Classify(fmt.Sprintf("list addresses in %s", zone), err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, ip := range r.IPs {
			if ip.Resource == nil || !wanted[ip.Resource.ID] || addrs[ip.Resource.ID].IsValid() {
				continue
			}
			addrs[ip.Resource.ID] = survey.Addr(ip.Address.IP.String())
		}
		return nil
	})
	return addrs, err
}

// userData sets the user-data of each machine.
func (p *Provider) userData(ctx context.Context, s *survey.Survey, servers []*instance.Server, machines []survey.Machine) {
	// errors are gaps, so none is returned
	_ = survey.Each(ctx, servers, func(ctx context.Context, i int, server *instance.Server) error {
		r, err := p.instances.GetServerUserData(&instance.GetServerUserDataRequest{
			Zone: server.Zone, ServerID: server.ID, Key: userDataKey,
		}, scw.WithContext(ctx))
		if err == nil {
			machines[i].UserData, err = io.ReadAll(r)
		}
		if err = rest.Classify("read user-data", err); err != nil && !errors.Is(err, cloud.ErrNotFound) {
			s.Gap(survey.WhatBoot, server.Name, err.Error())
		}
		return nil
	})
}

// tagValue returns the value of the tag with the given key.
func tagValue(tags []string, key string) string {
	for _, t := range tags {
		if v, ok := strings.CutPrefix(t, key+"="); ok {
			return v
		}
	}
	return ""
}
