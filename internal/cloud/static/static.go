// Package static observes a cluster without a provider, such as on bare metal, from a file that lists its machines:
//
//	cluster: atlas.k8s.local
//	groups:
//	- name: control-plane
//	  role: ControlPlane
//	  machines:
//	  - {name: cp-1, address: 10.0.0.11, zone: rack-1}
//	- name: nodes
//	  role: Node
//	  machines:
//	  - {name: n-1, address: 10.0.1.21}
//	loadBalancer:
//	  name: api
//	  addresses: [10.0.0.9]
//	  ports: [443, 3988]
//
// The file is read for each observation, so changes apply at once. What it cannot contain, such as boot configurations and
// network rules, is a gap. An invalid file is an error that names the line, never an empty result.
package static

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// Config identifies the file.
type Config struct {
	// Path is the file's path. Required.
	Path string
	// Cluster is the name that the file must contain. Empty: any.
	Cluster string
}

// FromEnv returns the configuration of a cluster, with the path in MUSTER_MACHINES.
func FromEnv(name string, getenv func(string) string) Config {
	return Config{Cluster: name, Path: getenv("MUSTER_MACHINES")}
}

// Provider observes one cluster. It is safe for concurrent use.
type Provider struct{ config Config }

var _ cloud.Provider = (*Provider)(nil)

// New returns a provider. It does not read the file.
func New(c Config) (*Provider, error) {
	if c.Path == "" {
		return nil, fmt.Errorf("static: %w: no file of machines; set MUSTER_MACHINES", cloud.ErrUsage)
	}
	return &Provider{config: c}, nil
}

// Seeds implements [cloud.Provider]: the addresses of the control-plane
// machines in the file.
func (p *Provider) Seeds(context.Context) ([]netip.Addr, error) {
	f, err := read(p.config)
	if err != nil {
		return nil, err
	}
	return survey.Seeds(f.Cluster, f.machines())
}

// Observe implements [cloud.Provider].
func (p *Provider) Observe(ctx context.Context) (*cloud.Observation, error) {
	f, err := read(p.config)
	if err != nil {
		return nil, err
	}
	s, _, cancel := survey.Begin(ctx, f.Cluster, cluster.Metal)
	defer cancel()
	o := cloud.Observation{Network: cloud.Network{Partial: true}, LoadBalancers: f.balancers()}
	o.Groups = s.Groups(f.machines(), "a file of machines does not say what they boot with")
	for _, lb := range o.LoadBalancers {
		s.Gap(survey.WhatHealth, lb.Name, "a file of machines does not say what stands behind a load balancer")
	}
	s.Gap(survey.WhatNetwork, "", "a file of machines does not say who may reach whom")
	s.Gap(survey.WhatPermissions, "", "a file of machines does not say what they may do")
	return s.Finish(o), nil
}

// Self identifies this machine by its addresses.
func Self(_ context.Context, c Config) (cloud.Self, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return cloud.Self{}, fmt.Errorf("list the addresses of this host: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return self(c, own)
}

func self(c Config, own map[netip.Addr]bool) (cloud.Self, error) {
	f, err := read(c)
	if err != nil {
		return cloud.Self{}, err
	}
	for _, m := range f.machines() {
		if own[m.Addr] {
			return cloud.Self{Cluster: f.Cluster, Name: m.Name, Addr: m.Addr}, nil
		}
	}
	return cloud.Self{}, fmt.Errorf("%s: %w: no machine in it has an address of this host", c.Path, cloud.ErrNotFound)
}
