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

// vendor is one cloud, with credentials as kOps gives them to a node.
type vendor struct {
	self  func(context.Context) (cloud.Self, error)
	seeds func(ctx context.Context, cluster string) ([]netip.Addr, error)
}

// Self implements protokube.Cloud.
func (v vendor) Self(ctx context.Context) (cloud.Self, error) { return v.self(ctx) }

// Seeds implements protokube.Cloud.
func (v vendor) Seeds(ctx context.Context, cluster string) ([]netip.Addr, error) {
	return v.seeds(ctx, cluster)
}

// vendorOf fits a provider's functions together.
func vendorOf[C any, P cloud.Provider](fromEnv func(cluster string, getenv func(string) string) C, self func(context.Context, C) (cloud.Self, error), open func(C) (P, error)) vendor {
	return vendor{
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

// onAWS reads its credentials and its region from the instance.
func onAWS() vendor {
	open := func(ctx context.Context, cluster string) (*aws.Provider, error) {
		return aws.New(ctx, aws.Config{Cluster: cluster, OnInstance: true})
	}
	return vendor{
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

// vendors are the clouds that a node can ask: all that kOps gossips on.
var vendors = map[cluster.Cloud]protokube.Cloud{
	cluster.AWS:          onAWS(),
	cluster.Azure:        vendorOf(azure.FromEnv, azure.Self, azure.New),
	cluster.DigitalOcean: vendorOf(digitalocean.FromEnv, digitalocean.Self, digitalocean.New),
	cluster.GCE:          vendorOf(gce.FromEnv, gce.Self, gce.New),
	cluster.Hetzner:      vendorOf(hetzner.FromEnv, hetzner.Self, hetzner.New),
	cluster.OpenStack:    vendorOf(openstack.FromEnv, openstack.Self, openstack.New),
	cluster.Scaleway:     vendorOf(scaleway.FromEnv, scaleway.Self, scaleway.New),
}
