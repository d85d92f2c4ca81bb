// Package open turns a cluster's spec into the provider that can look at it. It
// is the one list of providers, and reads the environment that kOps reads.
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

// Config says how providers are opened.
type Config struct {
	// Getenv reads the environment. Nil means an empty one. AWS's variables are
	// read by its SDK, from the process's own environment.
	Getenv func(string) string
	// Timeout bounds each look at AWS as a whole; the others look until the
	// context ends. 0: 2 minutes.
	Timeout time.Duration
}

// Provider returns the provider of a cluster. It makes no call. What the
// environment or the spec lacks is of kind [cloud.ErrUsage] or [cloud.ErrDenied].
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

// opened keeps a nil pointer from becoming an interface that is not nil.
func opened[P cloud.Provider](p P, err error) (cloud.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// zoneName is what AWS's names of zones begin with: the region. Local zones have
// more behind it.
var zoneName = regexp.MustCompile(`^[a-z]{2,}(?:-[a-z]+)+-[0-9]+`)

// Region is the AWS region of a spec, out of the zones of its subnets as kOps
// does it, whatever the environment says; empty if they name none.
func Region(spec *cluster.Cluster) string {
	for _, s := range spec.Subnets {
		if r := zoneName.FindString(s.Zone); r != "" {
			return r
		}
	}
	return ""
}
