// Package open returns the provider for a cluster's spec. It has the only list of providers, and reads the environment
// variables that kOps reads.
package open

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/azure"
	"github.com/muster-dev/muster/internal/cloud/digitalocean"
	"github.com/muster-dev/muster/internal/cloud/gce"
	"github.com/muster-dev/muster/internal/cloud/hetzner"
	"github.com/muster-dev/muster/internal/cloud/openstack"
	"github.com/muster-dev/muster/internal/cloud/scaleway"
	"github.com/muster-dev/muster/internal/cloud/static"
	"github.com/muster-dev/muster/internal/cluster"
)

// Config configures how providers are opened.
type Config struct {
	// Getenv reads the environment. Nil means an empty one. AWS's variables are
	// read by its SDK, from the process's own environment.
	Getenv func(string) string
	// Timeout bounds each observation of AWS; the other providers only have the context's deadline. 0: 2 minutes.
	Timeout time.Duration
}

// Provider returns the provider of a cluster. It makes no call. If the environment or the spec is incomplete, the error is
// of kind [cloud.ErrUsage] or [cloud.ErrDenied].
func Provider(ctx context.Context, spec *cluster.Cluster, c Config) (cloud.Provider, error) {
	getenv := c.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	switch spec.Cloud {
	case cluster.AWS:
		return opened(aws.New(ctx, aws.Config{Cluster: spec.Name, Region: Region(spec), Timeout: c.Timeout}))
	case cluster.Azure:
		return opened(azure.New(azure.FromEnv(spec.Name, getenv)))
	case cluster.DigitalOcean:
		return opened(digitalocean.New(digitalocean.FromEnv(spec.Name, getenv)))
	case cluster.GCE:
		return opened(gce.New(gce.FromEnv(spec.Name, getenv)))
	case cluster.Hetzner:
		return opened(hetzner.New(hetzner.FromEnv(spec.Name, getenv)))
	case cluster.Metal:
		return opened(static.New(static.FromEnv(spec.Name, getenv)))
	case cluster.OpenStack:
		return opened(openstack.New(openstack.FromEnv(spec.Name, getenv)))
	case cluster.Scaleway:
		return opened(scaleway.New(scaleway.FromEnv(spec.Name, getenv)))
	default:
		return nil, fmt.Errorf("muster has no eyes for cloud %q: %w", spec.Cloud, cloud.ErrUsage)
	}
}

// opened converts a provider to the interface; a nil pointer becomes a nil interface.
func opened[P cloud.Provider](p P, err error) (cloud.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// zoneName matches the region at the beginning of an AWS zone's name, which may be a local zone.
var zoneName = regexp.MustCompile(`^[a-z]{2,}(?:-[a-z]+)+-[0-9]+`)

// Region returns the AWS region of a spec, from the zones of its subnets, as in kOps; empty if they have none. The
// environment does not matter.
func Region(spec *cluster.Cluster) string {
	for _, s := range spec.Subnets {
		if r := zoneName.FindString(s.Zone); r != "" {
			return r
		}
	}
	return ""
}
