// Package digitalocean observes a cluster on DigitalOcean.
//
// kOps creates individual droplets with tags for the cluster, the group and the role. Tags cannot contain dots, so the
// cluster's name has hyphens instead: clusters whose names differ only in that cannot be told apart. The API does not return
// user-data and nothing marks a droplet as old, so boot configurations, tokens and generations are unknown, as is the health
// of the load balancer's targets.
//
// It is read-only.
package digitalocean

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/godo"
	"golang.org/x/oauth2"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// The tags of kOps, up to the colon.
const (
	tagCluster = "KubernetesCluster"
	tagGroup   = "kops-instancegroup"
	tagRole    = "kops-instance-role"
)

// perPage is the API's maximum page size.
const perPage = 200

// unreadable is the reason of the gap for a missing boot configuration.
const unreadable = "the API of DigitalOcean does not give user-data back"

// Config identifies the cluster and how to reach the API.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Token is an API token that may read droplets, load balancers and
	// firewalls. Required, except for metadata.
	Token string
	// Endpoint is the API's base URL. Empty: DigitalOcean's.
	Endpoint string
	// Metadata is the base URL of the metadata service. Empty: DigitalOcean's.
	Metadata string
	// HTTP configures the transport; its Routes are ignored.
	HTTP rest.Transport
}

// FromEnv returns the configuration of a cluster from kOps's environment variables.
func FromEnv(name string, getenv func(string) string) Config {
	return Config{Cluster: name, Token: getenv("DIGITALOCEAN_ACCESS_TOKEN"), Endpoint: getenv("DIGITALOCEAN_API_URL")}
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct {
	config Config
	client *godo.Client
}

var _ cloud.Provider = (*Provider)(nil)

var routes = []rest.Route{
	{Method: "GET", Path: "/v2/droplets", Action: "droplets.list", Permission: "droplet:read"},
	{Method: "GET", Path: "/v2/load_balancers", Action: "load_balancers.list", Permission: "load_balancer:read"},
	{Method: "GET", Path: "/v2/firewalls", Action: "firewalls.list", Permission: "firewall:read"},
}

// New returns a provider. It makes no call.
func New(c Config) (*Provider, error) {
	if c.Cluster == "" {
		return nil, fmt.Errorf("digitalocean: %w: no cluster name", cloud.ErrUsage)
	}
	if c.Token == "" {
		return nil, fmt.Errorf("digitalocean: %w: no API token; set DIGITALOCEAN_ACCESS_TOKEN", cloud.ErrDenied)
	}
	t := c.HTTP
	t.Routes = routes
	client := t.Client()
	client.Transport = &oauth2.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: c.Token}), Base: &t}
	options := []godo.ClientOpt{godo.SetUserAgent("muster")}
	if c.Endpoint != "" {
		options = append(options, godo.SetBaseURL(strings.TrimSuffix(c.Endpoint, "/")+"/"))
	}
	g, err := godo.New(client, options...)
	if err != nil {
		return nil, fmt.Errorf("digitalocean: endpoint %q: %w: %w", c.Endpoint, cloud.ErrUsage, err)
	}
	return &Provider{config: c, client: g}, nil
}

// Seeds implements [cloud.Provider].
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	droplets, err := p.droplets(ctx)
	if err != nil {
		return nil, err
	}
	return survey.Seeds(p.config.Cluster, machines(droplets))
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, ctx, cancel := survey.Begin(ctx, p.config.Cluster, cluster.DigitalOcean)
	defer cancel()
	var (
		droplets  []godo.Droplet
		balancers []cloud.LoadBalancer
		firewalls []godo.Firewall
	)
	err := s.Look(ctx,
		survey.Part{What: survey.WhatInstances, Look: func(ctx context.Context) (err error) {
			droplets, err = p.droplets(ctx)
			return err
		}},
		survey.Part{What: survey.WhatLoadBalancers, Look: func(ctx context.Context) (err error) {
			balancers, err = p.loadBalancers(ctx)
			return err
		}},
		survey.Part{What: survey.WhatNetwork, Look: func(ctx context.Context) (err error) {
			firewalls, err = allPages(ctx, "list firewalls", p.client.Firewalls.List)
			return err
		}},
	)
	if err != nil {
		return nil, err
	}
	for _, lb := range balancers {
		s.Gap(survey.WhatHealth, lb.Name, "the API of DigitalOcean does not say how the targets of a load balancer are")
	}
	groups := s.Groups(machines(droplets), unreadable)
	return s.Finish(cloud.Observation{
		Groups:        groups,
		LoadBalancers: balancers,
		Network:       network(droplets, balancers, firewalls, s.Missing(survey.WhatNetwork) || s.Missing(survey.WhatInstances)),
		Roles:         s.Tokens(groups),
	}), nil
}

// allPages reads all pages of a list.
func allPages[T any](ctx context.Context, what string, list func(context.Context, *godo.ListOptions) ([]T, *godo.Response, error)) ([]T, error) {
	var all []T
	for n := 1; ; n++ {
		page, resp, err := list(ctx, &godo.ListOptions{Page: n, PerPage: perPage})
		if err != nil {
			return nil, rest.Classify(what, err)
		}
		all = append(all, page...)
		if resp.Links == nil || resp.Links.IsLastPage() {
			return all, nil
		}
	}
}

// hyphenated returns the cluster's name as in tags.
func hyphenated(name string) string { return strings.ReplaceAll(name, ".", "-") }

func (p *Provider) droplets(ctx context.Context) ([]godo.Droplet, error) {
	tag := tagCluster + ":" + hyphenated(p.config.Cluster)
	all, err := allPages(ctx, "list droplets of "+p.config.Cluster,
		func(ctx context.Context, o *godo.ListOptions) ([]godo.Droplet, *godo.Response, error) {
			return p.client.Droplets.ListByTag(ctx, tag, o)
		})
	// exactly the tag, since that of another cluster may contain it
	return slices.DeleteFunc(all, func(d godo.Droplet) bool { return !slices.Contains(d.Tags, tag) }), err
}

func machines(droplets []godo.Droplet) []survey.Machine {
	out := make([]survey.Machine, 0, len(droplets))
	for _, d := range droplets {
		m := survey.Machine{
			Instance: cloud.Instance{ID: strconv.Itoa(d.ID), Name: d.Name, State: d.Status},
			Group:    tagValue(d.Tags, tagGroup),
			Role:     survey.Role(tagValue(d.Tags, tagRole)),
			Alive:    d.Status == "new" || d.Status == "active",
		}
		if d.Region != nil {
			m.Zone = d.Region.Slug
		}
		if addr, err := d.PrivateIPv4(); err == nil {
			m.Addr = survey.Addr(addr)
		}
		if t, err := time.Parse(time.RFC3339, d.Created); err == nil {
			m.Launched = t
		}
		out = append(out, m)
	}
	return out
}

// tagValue returns the value of the tag with the given key.
func tagValue(tags []string, key string) string {
	for _, t := range tags {
		if k, v, ok := strings.Cut(t, ":"); ok && k == key {
			return v
		}
	}
	return ""
}

// metadataURL is the base URL of the metadata service.
const metadataURL = "http://169.254.169.254/metadata/v1"

// Self identifies this droplet from its metadata. Cluster has hyphens instead of dots, as in the tag; it may be used as the
// Cluster of a [Config].
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	m := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP, Header: http.Header{}}
	got, err := m.All(ctx, "id", "tags/", "interfaces/private/0/ipv4/address")
	if err != nil {
		return cloud.Self{}, err
	}
	name := tagValue(strings.Fields(got[1]), tagCluster)
	if name == "" {
		return cloud.Self{}, fmt.Errorf("droplet %s: %w: it has no tag %s", got[0], cloud.ErrUsage, tagCluster)
	}
	return cloud.Self{Cluster: name, Name: got[0], Addr: survey.Addr(got[2])}, nil
}
