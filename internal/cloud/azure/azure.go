// Package azure observes a cluster on Azure.
//
// kOps creates a scale set for each instance group and tags it with the cluster, the group and the role. The API returns a
// scale set's user-data, and for each machine whether it has the latest model, which tells old and new machines apart.
// Permissions are role assignments of a scale set's identity; kOps never revokes what an older release granted.
//
// It is read-only.
package azure

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// kOps's tags.
const (
	tagCluster      = "KubernetesCluster"
	tagGroup        = "kops.k8s.io_instancegroup"
	tagControlPlane = "k8s.io_role_control-plane"
	tagMaster       = "k8s.io_role_master" // of older releases
	tagNode         = "k8s.io_role_node"
)

// unreadable is the reason of the gap for a missing boot configuration.
const unreadable = "the scale set has no user-data, or it could not be read"

// Config identifies the cluster and how to reach the API.
type Config struct {
	// Cluster is the cluster's name. Required.
	Cluster string
	// Subscription is the ID of the subscription. Required.
	Subscription string
	// ResourceGroup is the cluster's resource group. Empty: the one with the cluster's name, as kOps creates it.
	ResourceGroup string
	// Credential is the login. Nil: Azure's default credential chain, that is AZURE_TENANT_ID, AZURE_CLIENT_ID and the like,
	// the machine's identity, or the login of az.
	Credential azcore.TokenCredential
	// Endpoint is the base URL of the resource manager. Empty: that of public
	// Azure. One without TLS is meant for tests on the loopback interface.
	Endpoint string
	// Metadata is the base URL of the metadata service. Empty: Azure's.
	Metadata string
	// HTTP configures the transport; its Routes are ignored.
	HTTP rest.Transport
}

// FromEnv returns the configuration of a cluster from kOps's environment variables.
func FromEnv(name string, getenv func(string) string) Config {
	return Config{Cluster: name, Subscription: getenv("AZURE_SUBSCRIPTION_ID"), ResourceGroup: getenv("AZURE_RESOURCE_GROUP")}
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct {
	config    Config
	manager   *arm.Client
	sets      *armcompute.VirtualMachineScaleSetsClient
	vms       *armcompute.VirtualMachineScaleSetVMsClient
	nics      *armnetwork.InterfacesClient
	balancers *armnetwork.LoadBalancersClient
	addresses *armnetwork.PublicIPAddressesClient
	nsgs      *armnetwork.SecurityGroupsClient
}

var _ cloud.Provider = (*Provider)(nil)

var routes = []rest.Route{
	{Method: "GET", Path: "/Microsoft.Compute/virtualMachineScaleSets", Action: "virtualMachineScaleSets list", Permission: "Microsoft.Compute/virtualMachineScaleSets/read"},
	{Method: "GET", Path: "/virtualMachineScaleSets/*", Action: "virtualMachineScaleSets get", Permission: "Microsoft.Compute/virtualMachineScaleSets/read"},
	{Method: "GET", Path: "/virtualMachineScaleSets/*/virtualMachines", Action: "virtualMachineScaleSets/virtualMachines list", Permission: "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read"},
	{Method: "GET", Path: "/virtualMachineScaleSets/*/virtualMachines/*", Action: "virtualMachineScaleSets/virtualMachines get", Permission: "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read"},
	{Method: "GET", Path: "/virtualMachineScaleSets/*/networkInterfaces", Action: "virtualMachineScaleSets/networkInterfaces list", Permission: "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read"},
	{Method: "GET", Path: "/Microsoft.Network/loadBalancers", Action: "loadBalancers list", Permission: "Microsoft.Network/loadBalancers/read"},
	{Method: "GET", Path: "/Microsoft.Network/publicIPAddresses", Action: "publicIPAddresses list", Permission: "Microsoft.Network/publicIPAddresses/read"},
	{Method: "GET", Path: "/Microsoft.Network/networkSecurityGroups", Action: "networkSecurityGroups list", Permission: "Microsoft.Network/networkSecurityGroups/read"},
	{Method: "GET", Path: "/Microsoft.Authorization/roleAssignments", Action: "roleAssignments list", Permission: "Microsoft.Authorization/roleAssignments/read"},
}

// New returns a provider. It makes no call.
func New(c Config) (*Provider, error) {
	switch {
	case c.Cluster == "":
		return nil, fmt.Errorf("azure: %w: no cluster name", cloud.ErrUsage)
	case c.Subscription == "":
		return nil, fmt.Errorf("azure: %w: no subscription; set AZURE_SUBSCRIPTION_ID", cloud.ErrUsage)
	}
	if c.ResourceGroup == "" {
		c.ResourceGroup = c.Cluster
	}
	if c.Credential == nil {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("azure: %w: no usable credentials; set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or log in with az login", cloud.ErrDenied)
		}
		c.Credential = credential
	}
	t := c.HTTP
	t.Routes = routes
	options := &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Transport: t.Client(),
			Retry:     policy.RetryOptions{MaxRetries: -1}, // the transport retries
			Telemetry: policy.TelemetryOptions{ApplicationID: "muster"},
		},
		DisableRPRegistration: true, // which would write
	}
	if c.Endpoint != "" {
		options.InsecureAllowCredentialWithHTTP = true
		options.Cloud = azcloud.Configuration{Services: map[azcloud.ServiceName]azcloud.ServiceConfiguration{
			azcloud.ResourceManager: {Endpoint: c.Endpoint, Audience: azcloud.AzurePublic.Services[azcloud.ResourceManager].Audience},
		}}
	}
	return clients(c, options)
}

func clients(c Config, options *arm.ClientOptions) (*Provider, error) {
	p := &Provider{config: c}
	var errs [7]error
	p.manager, errs[0] = arm.NewClient("muster", "v1.0.0", c.Credential, options)
	p.sets, errs[1] = armcompute.NewVirtualMachineScaleSetsClient(c.Subscription, c.Credential, options)
	p.vms, errs[2] = armcompute.NewVirtualMachineScaleSetVMsClient(c.Subscription, c.Credential, options)
	p.nics, errs[3] = armnetwork.NewInterfacesClient(c.Subscription, c.Credential, options)
	p.balancers, errs[4] = armnetwork.NewLoadBalancersClient(c.Subscription, c.Credential, options)
	p.addresses, errs[5] = armnetwork.NewPublicIPAddressesClient(c.Subscription, c.Credential, options)
	p.nsgs, errs[6] = armnetwork.NewSecurityGroupsClient(c.Subscription, c.Credential, options)
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("azure: %w: %w", cloud.ErrUsage, err)
		}
	}
	return p, nil
}

// login fetches a token, which the clients share.
func (p *Provider) login(ctx context.Context) error {
	_, err := p.config.Credential.GetToken(ctx, policy.TokenRequestOptions{
		Scopes: []string{azcloud.AzurePublic.Services[azcloud.ResourceManager].Audience + "/.default"},
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return rest.Classify("log in to Azure", ctx.Err())
	}
	// the message has a line for each way to log in; the code is enough
	code := aadCode.FindString(err.Error())
	if code != "" {
		code = " (" + code + ")"
	}
	return fmt.Errorf("log in to Azure: %w: no credentials that work%s; set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or log in with az login", cloud.ErrDenied, code)
}

var aadCode = regexp.MustCompile(`AADSTS\d+`)

// Seeds implements [cloud.Provider].
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := survey.WithDeadline(ctx)
	defer cancel()
	if err := p.login(ctx); err != nil {
		return nil, err
	}
	sets, err := p.scaleSets(ctx)
	if err != nil {
		return nil, err
	}
	var machines []survey.Machine
	for _, set := range sets {
		if set.role != cluster.RoleControlPlane {
			continue
		}
		ms, err := p.machines(ctx, set)
		if err != nil {
			return nil, err
		}
		machines = append(machines, ms...)
	}
	return survey.Seeds(p.config.Cluster, machines)
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, ctx, cancel := survey.Begin(ctx, p.config.Cluster, cluster.Azure)
	defer cancel()
	if err := p.login(ctx); err != nil {
		return nil, err
	}
	var (
		groups    []cloud.Group
		roles     []cloud.Role
		balancers []cloud.LoadBalancer
		nsgs      []*armnetwork.SecurityGroup
		sets      []scaleSet
	)
	err := s.Look(ctx,
		survey.Part{What: survey.WhatGroups, Look: func(ctx context.Context) (err error) {
			if sets, err = p.scaleSets(ctx); err != nil {
				return err
			}
			groups = p.groups(ctx, s, sets)
			roles = p.roles(ctx, s, sets)
			return nil
		}},
		survey.Part{What: survey.WhatLoadBalancers, Look: func(ctx context.Context) (err error) {
			balancers, err = p.loadBalancers(ctx, s)
			return err
		}},
		survey.Part{What: survey.WhatNetwork, Look: func(ctx context.Context) (err error) {
			nsgs, err = p.securityGroups(ctx)
			return err
		}},
	)
	if err != nil {
		return nil, err
	}
	nameTargets(balancers, groups)
	return s.Finish(cloud.Observation{
		Groups:        groups,
		LoadBalancers: balancers,
		Network:       network(nsgs, sets, balancers, s.Missing(survey.WhatNetwork) || s.Missing(survey.WhatGroups)),
		Roles:         roles,
	}), nil
}
