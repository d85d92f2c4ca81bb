package peer

import (
	"context"
	"net/netip"
	"os"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/aws"
	"github.com/muster-dev/muster/internal/cloud/azure"
	"github.com/muster-dev/muster/internal/cloud/digitalocean"
	"github.com/muster-dev/muster/internal/cloud/gce"
	"github.com/muster-dev/muster/internal/cloud/hetzner"
	"github.com/muster-dev/muster/internal/cloud/openstack"
	"github.com/muster-dev/muster/internal/cloud/scaleway"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/protokube"
)

// provider is one cloud, with the credentials that kOps gives to a node. It implements protokube.Cloud.
type provider struct {
	self  func(context.Context) (cloud.Self, error)
	seeds func(ctx context.Context, cluster string) ([]netip.Addr, error)
}

// Self implements protokube.Cloud.
func (v provider) Self(ctx context.Context) (cloud.Self, error) { return v.self(ctx) }

// Seeds implements protokube.Cloud.
func (v provider) Seeds(ctx context.Context, cluster string) ([]netip.Addr, error) {
	return v.seeds(ctx, cluster)
}

// newProvider combines the functions of a cloud's package.
func newProvider[C any, P cloud.Provider](fromEnv func(cluster string, getenv func(string) string) C, self func(context.Context, C) (cloud.Self, error), open func(C) (P, error)) provider {
	return provider{
		self: func(ctx context.Context) (cloud.Self, error) { return self(ctx, fromEnv("", os.Getenv)) },
		seeds: func(ctx context.Context, cluster string) ([]netip.Addr, error) {
			p, err := open(fromEnv(cluster, os.Getenv))
			if err != nil {
				return nil, err
			}
			return p.Seeds(ctx)
		},
	}
}

// newAWS returns AWS with credentials and region from the instance.
func newAWS() provider {
	open := func(ctx context.Context, cluster string) (*aws.Provider, error) {
		return aws.New(ctx, aws.Config{Cluster: cluster, OnInstance: true})
	}
	return provider{
		self: func(ctx context.Context) (cloud.Self, error) {
			p, err := open(ctx, "")
			if err != nil {
				return cloud.Self{}, err
			}
			return p.Self(ctx)
		},
		seeds: func(ctx context.Context, cluster string) ([]netip.Addr, error) {
			p, err := open(ctx, cluster)
			if err != nil {
				return nil, err
			}
			return p.Seeds(ctx)
		},
	}
}

// clouds are all clouds on which kOps supports gossip.
var clouds = map[cluster.Cloud]protokube.Cloud{
	cluster.AWS:          newAWS(),
	cluster.Azure:        newProvider(azure.FromEnv, azure.Self, azure.New),
	cluster.DigitalOcean: newProvider(digitalocean.FromEnv, digitalocean.Self, digitalocean.New),
	cluster.GCE:          newProvider(gce.FromEnv, gce.Self, gce.New),
	cluster.Hetzner:      newProvider(hetzner.FromEnv, hetzner.Self, hetzner.New),
	cluster.OpenStack:    newProvider(openstack.FromEnv, openstack.Self, openstack.New),
	cluster.Scaleway:     newProvider(scaleway.FromEnv, scaleway.Self, scaleway.New),
}
