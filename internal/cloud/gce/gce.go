// Package gce observes a cluster on Google Compute Engine.
//
// kOps creates a managed instance group for each instance group and zone, from a template whose metadata has the names of
// the cluster and the group and the boot script. An instance's metadata names its template, which tells old and new
// instances apart. The network load balancer passes packets through unchanged: whoever may reach the machines behind it may
// reach it.
//
// It uses the REST API directly; see [list]. It is read-only.
package gce

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// Base URLs of the APIs.
const (
	computeURL = "https://compute.googleapis.com/compute/v1"
	projectURL = "https://cloudresourcemanager.googleapis.com/v1"
	storageURL = "https://storage.googleapis.com/storage/v1"
	scope      = "https://www.googleapis.com/auth/cloud-platform.read-only"
)

// unreadable is the reason of the gap for a missing boot configuration.
const unreadable = "the template has neither a startup-script nor user-data, or it could not be read"

// Config identifies the cluster and how to reach the API.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Project is the cluster's project. Empty: that of the credentials.
	Project string
	// Credentials are the contents of a key file. Empty: the application default credentials, that is the file in
	// GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, or the machine's service account.
	Credentials []byte
	// Compute, Projects and Storage are the base URLs of the three APIs. Empty:
	// Google's own.
	Compute, Projects, Storage string
	// Metadata is the base URL of the metadata service. Empty: Google's.
	Metadata string
	// HTTP configures the transport; its Routes are ignored.
	HTTP rest.Transport
}

// FromEnv returns the configuration of a cluster from kOps's and Google's environment variables.
func FromEnv(name string, getenv func(string) string) Config {
	c := Config{Cluster: name}
	for _, v := range []string{"GOOGLE_CLOUD_PROJECT", "GCP_PROJECT", "CLOUDSDK_CORE_PROJECT"} {
		if c.Project == "" {
			c.Project = getenv(v)
		}
	}
	return c
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct{ config Config }

var _ cloud.Provider = (*Provider)(nil)

var routes = []rest.Route{
	{Method: "POST", Path: "/token", Action: "oauth2 token", Login: true},
	{Method: "GET", Path: "/aggregated/instances", Action: "compute.instances.aggregatedList", Permission: "compute.instances.list"},
	{Method: "GET", Path: "/aggregated/instanceGroupManagers", Action: "compute.instanceGroupManagers.aggregatedList", Permission: "compute.instanceGroupManagers.list"},
	{Method: "GET", Path: "/global/instanceTemplates", Action: "compute.instanceTemplates.list", Permission: "compute.instanceTemplates.list"},
	{Method: "GET", Path: "/global/firewalls", Action: "compute.firewalls.list", Permission: "compute.firewalls.list"},
	{Method: "GET", Path: "/aggregated/forwardingRules", Action: "compute.forwardingRules.aggregatedList", Permission: "compute.forwardingRules.list"},
	{Method: "GET", Path: "/backendServices/*", Action: "compute.regionBackendServices.get", Permission: "compute.regionBackendServices.get"},
	{Method: "POST", Path: "/backendServices/*/getHealth", Action: "compute.regionBackendServices.getHealth", Permission: "compute.regionBackendServices.get"},
	{Method: "GET", Path: "/targetPools/*", Action: "compute.targetPools.get", Permission: "compute.targetPools.get"},
	{Method: "POST", Path: "/targetPools/*/getHealth", Action: "compute.targetPools.getHealth", Permission: "compute.targetPools.get"},
	{Method: "GET", Path: "/*ealthChecks/*", Action: "compute.healthChecks.get", Permission: "compute.healthChecks.get"},
	{Method: "POST", Path: "/projects/*:getIamPolicy", Action: "resourcemanager.projects.getIamPolicy", Permission: "resourcemanager.projects.getIamPolicy"},
	{Method: "GET", Path: "/b/*/iam", Action: "storage.buckets.getIamPolicy", Permission: "storage.buckets.getIamPolicy"},
}

// New returns a provider. It makes no call.
func New(c Config) (*Provider, error) {
	if c.Cluster == "" {
		return nil, fmt.Errorf("gce: %w: no cluster name", cloud.ErrUsage)
	}
	for at, defaultURL := range map[*string]string{&c.Compute: computeURL, &c.Projects: projectURL, &c.Storage: storageURL} {
		if *at == "" {
			*at = defaultURL
		}
		*at = strings.TrimSuffix(*at, "/")
	}
	return &Provider{config: c}, nil
}

// throttled recognises throttling, which is a 403 like a denial.
func throttled(status int, body []byte) bool {
	text := string(body)
	return status == http.StatusForbidden && (strings.Contains(text, `"rateLimitExceeded"`) || strings.Contains(text, `"userRateLimitExceeded"`))
}

// login finds the credentials and fetches a token. The session is valid for calls under ctx only.
func (p *Provider) login(ctx context.Context) (*session, error) {
	t := p.config.HTTP
	t.Routes, t.Throttled = routes, throttled
	transport := t.Session(ctx)
	anonymous := t.Client()
	anonymous.Transport = transport
	creds, err := p.credentials(context.WithValue(ctx, oauth2.HTTPClient, anonymous))
	if err != nil {
		// the error may quote the key file
		return nil, fmt.Errorf("gce: %w: no usable credentials; set GOOGLE_APPLICATION_CREDENTIALS or log in with gcloud auth application-default login", cloud.ErrDenied)
	}
	token, err := creds.TokenSource.Token()
	if err != nil {
		return nil, transport.Classify("log in to Google", err)
	}
	project := p.config.Project
	if project == "" {
		project = creds.ProjectID
	}
	if project == "" {
		return nil, fmt.Errorf("gce: %w: no project; set GOOGLE_CLOUD_PROJECT", cloud.ErrUsage)
	}
	client := t.Client()
	client.Transport = &oauth2.Transport{Source: oauth2.StaticTokenSource(token), Base: transport}
	return &session{config: p.config, project: project, client: client}, nil
}

func (p *Provider) credentials(ctx context.Context) (*google.Credentials, error) {
	if len(p.config.Credentials) == 0 {
		return google.FindDefaultCredentials(ctx, scope)
	}
	var file struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(p.config.Credentials, &file); err != nil {
		return nil, err
	}
	return google.CredentialsFromJSONWithType(ctx, p.config.Credentials, file.Type, scope)
}

// Seeds implements [cloud.Provider].
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	s, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.instances(ctx)
	if err != nil {
		return nil, err
	}
	machines := make([]survey.Machine, 0, len(list))
	for _, in := range list {
		machines = append(machines, survey.Machine{Instance: in.instance(), Role: in.role(p.config.Cluster), Alive: in.alive()})
	}
	return survey.Seeds(p.config.Cluster, machines)
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, ctx, cancel := survey.Begin(ctx, p.config.Cluster, cluster.GCE)
	defer cancel()
	in, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	var (
		list      []instance
		managers  []manager
		templates []template
		balancers []cloud.LoadBalancer
		firewalls []firewall
		policy    policy
	)
	err = s.Look(ctx,
		survey.Part{What: survey.WhatInstances, Look: func(ctx context.Context) (err error) {
			list, err = in.instances(ctx)
			return err
		}},
		survey.Part{What: survey.WhatGroups, Look: func(ctx context.Context) (err error) {
			managers, err = in.managers(ctx)
			return err
		}},
		survey.Part{What: survey.WhatBoot, Look: func(ctx context.Context) (err error) {
			templates, err = in.templates(ctx)
			return err
		}},
		survey.Part{What: survey.WhatLoadBalancers, Look: func(ctx context.Context) (err error) {
			balancers, err = in.loadBalancers(ctx, s)
			return err
		}},
		survey.Part{What: survey.WhatNetwork, Look: func(ctx context.Context) (err error) {
			firewalls, err = in.firewalls(ctx)
			return err
		}},
		survey.Part{What: survey.WhatPermissions, Look: func(ctx context.Context) (err error) {
			policy, err = in.policy(ctx)
			return err
		}},
	)
	if err != nil {
		return nil, err
	}
	groups := assemble(s, p.config.Cluster, list, managers, templates)
	var roles []cloud.Role // unknown without the project's policy
	if !s.Missing(survey.WhatPermissions) {
		roles = in.roles(ctx, s, groups, policy)
	}
	partial := s.Missing(survey.WhatNetwork) || s.Missing(survey.WhatInstances)
	return s.Finish(cloud.Observation{
		Groups:        groups,
		LoadBalancers: balancers,
		Network:       network(p.config.Cluster, list, firewalls, partial),
		Roles:         roles,
	}), nil
}

// metadataURL is the base URL of the metadata service.
const metadataURL = "http://169.254.169.254/computeMetadata/v1"

// Self asks the metadata service which instance this is; no login is needed.
func Self(ctx context.Context, c Config) (cloud.Self, error) {
	m := rest.Metadata{Base: cmp.Or(c.Metadata, metadataURL), HTTP: c.HTTP, Header: http.Header{"Metadata-Flavor": {"Google"}}}
	got, err := m.All(ctx, "instance/attributes/cluster-name", "instance/name", "instance/network-interfaces/0/ip")
	if err != nil {
		return cloud.Self{}, err
	}
	return cloud.Self{Cluster: got[0], Name: got[1], Addr: survey.Addr(got[2])}, nil
}
