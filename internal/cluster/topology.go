package cluster

import (
	"fmt"
	"slices"
)

// Topology is how the nodes of a cluster find its API.
type Topology string

// The topologies. Hybrid exists in kOps 1.36 only: the control plane gossips,
// workers do not. Public and private hosted DNS are recognised, not managed.
const (
	Gossip  Topology = "gossip"
	Hybrid  Topology = "hybrid"
	None    Topology = "none"
	Public  Topology = "public"
	Private Topology = "private"
)

// Topologies returns all topologies.
func Topologies() []Topology { return []Topology{Gossip, Hybrid, None, Public, Private} }

// ParseTopology reads the name of a topology.
func ParseTopology(s string) (Topology, error) {
	if t := Topology(s); slices.Contains(Topologies(), t) {
		return t, nil
	}
	return "", fmt.Errorf("topology %q is unknown; write one of %s", clip(s), join(Topologies()))
}

// Topology returns how the cluster's nodes find the API if the given kOps release last configured them. A DNS type of
// None takes precedence over the name.
//
// For kOps 1.37 a gossip name without None still gives [Gossip]: that is what
// the nodes do, and why 1.37 refuses the spec. On GCE with a load balancer, the
// workers of kOps 1.35 boot through it but gossip afterwards; that is gossip
// too.
func (c *Cluster) Topology(r Release) Topology {
	switch {
	case c.UsesNoneDNS():
		return None
	case IsGossipName(c.Name) && rulesOf(r).hybrid && c.UsesLoadBalancerForKopsController(r):
		return Hybrid
	case IsGossipName(c.Name):
		return Gossip
	case c.DNSType == DNSPrivate:
		return Private
	default:
		return Public
	}
}

// UsesNoneDNS reports whether the DNS type is None. It holds for any name and
// is tested before the name everywhere in kOps.
func (c *Cluster) UsesNoneDNS() bool { return c.DNSType == DNSNone }

// UsesLegacyGossip reports whether kOps of the given release treats the cluster as a gossip cluster, hybrid included.
// kOps 1.37 no longer has this test.
func (c *Cluster) UsesLegacyGossip(r Release) bool {
	return rulesOf(r).gossip && !c.UsesNoneDNS() && IsGossipName(c.Name)
}

// PublishesDNSRecords reports whether kOps of the given release writes the
// cluster's names to hosted DNS. Up to 1.36 no gossip name ever gets there.
func (c *Cluster) PublishesDNSRecords(r Release) bool {
	return !c.UsesNoneDNS() && !c.UsesLegacyGossip(r)
}

// UsesPublicDNS is kOps's test of the same name, true also when the spec names
// no DNS type. Up to 1.35 it holds for gossip clusters too. So it does in 1.37,
// but a gossip cluster does not get that far there.
func (c *Cluster) UsesPublicDNS(r Release) bool {
	return (c.DNSType == DNSPublic || c.DNSType == "") && c.hostedTestApplies(r)
}

// UsesPrivateDNS is kOps's test of the same name, with the same exception for
// gossip clusters as [Cluster.UsesPublicDNS].
func (c *Cluster) UsesPrivateDNS(r Release) bool {
	return c.DNSType == DNSPrivate && c.hostedTestApplies(r)
}

func (c *Cluster) hostedTestApplies(r Release) bool {
	return rulesOf(r).hostedMatchesGossip || !c.UsesLegacyGossip(r)
}

// UsesLoadBalancerForKopsController reports whether nodes reach kops-controller
// through the load balancer of the API. With None it is always true, even when
// the spec asks for no load balancer: see [CodeNoLoadBalancer].
func (c *Cluster) UsesLoadBalancerForKopsController(r Release) bool {
	return c.UsesNoneDNS() || c.UsesLegacyGossip(r) && rulesOf(r).behindBalancer(c)
}

// UseKopsControllerForNodeConfig reports whether workers get their
// configuration from kops-controller, instead of reading the state store.
func (c *Cluster) UseKopsControllerForNodeConfig(r Release) bool {
	return !c.UsesLegacyGossip(r) ||
		c.UsesLoadBalancerForKopsController(r) ||
		slices.Contains(rulesOf(r).servedAnyway, c.Cloud)
}

// Supports reports whether kOps of the given release validates a cluster of
// this topology on this cloud. An unknown cloud supports nothing.
func Supports(cloud Cloud, t Topology, r Release) bool {
	switch t {
	case Gossip:
		return rulesOf(r).gossip && slices.Contains(cloudTopologies(cloud), Gossip)
	case Hybrid:
		return rulesOf(r).hybrid && slices.Contains(cloudTopologies(cloud), Gossip)
	default:
		return slices.Contains(cloudTopologies(cloud), t)
	}
}

// cloudTopologies is kOps's matrix of clouds and topologies. It knows gossip
// but not hybrid, which is gossip to its validation.
func cloudTopologies(cloud Cloud) []Topology {
	switch cloud {
	case AWS, GCE, OpenStack:
		return []Topology{None, Gossip, Public, Private}
	case DigitalOcean, Scaleway:
		return []Topology{None, Gossip, Public}
	case Azure, Hetzner:
		return []Topology{None, Gossip}
	case Linode, Metal:
		return []Topology{None}
	default:
		return nil
	}
}
