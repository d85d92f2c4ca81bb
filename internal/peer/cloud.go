package peer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/digitalocean"
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

// vendors are the clouds that a node can ask.
var vendors = map[cluster.Cloud]vendor{
	cluster.DigitalOcean: vendorOf(digitalocean.FromEnv, digitalocean.Self, digitalocean.New),
	cluster.Hetzner:      vendorOf(hetzner.FromEnv, hetzner.Self, hetzner.New),
	cluster.OpenStack:    vendorOf(openstack.FromEnv, openstack.Self, openstack.New),
	cluster.Scaleway:     vendorOf(scaleway.FromEnv, scaleway.Self, scaleway.New),
}

// CloudOf returns the cloud that a node runs on. It implements
// protokube.CloudFunc.
func CloudOf(name cluster.Cloud) (protokube.Cloud, error) {
	if v, ok := vendors[name]; ok {
		return v, nil
	}
	var known []string
	for n := range vendors {
		known = append(known, string(n))
	}
	slices.Sort(known)
	return nil, fmt.Errorf("muster-peer can ask %s, and not this one", strings.Join(known, ", "))
}
