package cluster

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// anyCluster draws any combination of what the rules look at.
func anyCluster(t *rapid.T) *Cluster {
	c := &Cluster{
		Name:                rapid.SampledFrom([]string{gossipName, hostedName, "k8s.local", "atlas", "k8s.local.example.com", gossipName + "."}).Draw(t, "name"),
		DNSType:             rapid.SampledFrom([]DNSType{"", DNSPublic, DNSPrivate, DNSNone}).Draw(t, "dns"),
		Cloud:               rapid.SampledFrom([]Cloud{AWS, Azure, DigitalOcean, GCE, Hetzner, Linode, Metal, OpenStack, Scaleway}).Draw(t, "cloud"),
		ExternalDNSProvider: rapid.SampledFrom([]string{"", "dns-controller", "external-dns"}).Draw(t, "provider"),
	}
	if rapid.Bool().Draw(t, "balancer") {
		c.API.LoadBalancer = &LoadBalancer{
			Type:              rapid.SampledFrom([]LoadBalancerType{"", LoadBalancerPublic, LoadBalancerInternal}).Draw(t, "type"),
			Class:             rapid.SampledFrom([]LoadBalancerClass{"", LoadBalancerClassic, LoadBalancerNetwork}).Draw(t, "class"),
			UseForInternalAPI: rapid.Bool().Draw(t, "internal"),
		}
	}
	if rapid.Bool().Draw(t, "gossipConfig") {
		c.Gossip = &GossipConfig{}
	}
	for _, role := range rapid.SliceOfN(rapid.SampledFrom([]Role{RoleControlPlane, RoleNode, RoleAPIServer, RoleBastion}), 0, 3).Draw(t, "roles") {
		c.Groups = append(c.Groups, Group{Name: strings.ToLower(string(role)), Role: role, MinSize: 1, MaxSize: 1})
	}
	return c
}

func anyRelease(t *rapid.T) Release { return rapid.SampledFrom(Releases()).Draw(t, "release") }

func TestNoneWinsOverEverythingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, r := anyCluster(t), anyRelease(t)
		c.DNSType = DNSNone
		if got := c.Topology(r); got != None {
			t.Fatalf("topology is %s", got)
		}
		if c.UsesLegacyGossip(r) || c.PublishesDNSRecords(r) || c.UsesPublicDNS(r) || c.UsesPrivateDNS(r) {
			t.Fatalf("another predicate holds beside None: %+v", answersOf(c, r))
		}
		if !c.UsesLoadBalancerForKopsController(r) || !c.UseKopsControllerForNodeConfig(r) {
			t.Fatalf("None does not reach kops-controller: %+v", answersOf(c, r))
		}
	})
}

func TestThePredicatesDivideAllClustersInThree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, r := anyCluster(t), anyRelease(t)
		n := 0
		for _, holds := range []bool{c.UsesNoneDNS(), c.UsesLegacyGossip(r), c.PublishesDNSRecords(r)} {
			if holds {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d of None, gossip and hosted hold: %+v", n, answersOf(c, r))
		}
		if c.UsesPublicDNS(r) && c.UsesPrivateDNS(r) {
			t.Fatalf("public and private both hold: %+v", answersOf(c, r))
		}
		if c.PublishesDNSRecords(r) && !c.UsesPublicDNS(r) && !c.UsesPrivateDNS(r) {
			t.Fatalf("hosted DNS is neither public nor private: %+v", answersOf(c, r))
		}
	})
}

func TestATopologyAgreesWithThePredicates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, r := anyCluster(t), anyRelease(t)
		topology := c.Topology(r)
		if !slices.Contains(Topologies(), topology) {
			t.Fatalf("unknown topology %q", topology)
		}
		if topology == Hybrid && r != Release136 {
			t.Fatalf("hybrid under %s", r)
		}
		if topology == Hybrid && (c.API.LoadBalancer == nil || !c.UsesLoadBalancerForKopsController(r)) {
			t.Fatal("hybrid without a load balancer for the nodes")
		}
		if (topology == None) != c.UsesNoneDNS() {
			t.Fatalf("topology %s, None %v", topology, c.UsesNoneDNS())
		}
		gossips := topology == Gossip || topology == Hybrid
		if r != Release137 && gossips != c.UsesLegacyGossip(r) {
			t.Fatalf("topology %s, gossip %v", topology, c.UsesLegacyGossip(r))
		}
		if topology == Private && !c.UsesPrivateDNS(r) || topology == Public && !c.UsesPublicDNS(r) {
			t.Fatalf("topology %s, but %+v", topology, answersOf(c, r))
		}
	})
}

func TestWithoutRefusalsAClusterReachesTheTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, r := anyCluster(t), anyRelease(t)
		target := rapid.SampledFrom(Topologies()).Draw(t, "target")
		if len(c.Refusals(target, r)) > 0 {
			return
		}
		switch {
		case target == None:
			c.DNSType = DNSNone
		case target == Public:
			c.DNSType = DNSPublic
		case target == Private || c.DNSType == DNSNone:
			c.DNSType = DNSPrivate
		}
		if got := c.Topology(r); got != target {
			t.Fatalf("nothing is refused, but the topology is %s instead of %s", got, target)
		}
		if target == None && (c.API.LoadBalancer == nil || c.Cloud == AWS && c.API.LoadBalancer.Class != LoadBalancerNetwork) {
			t.Fatal("None is not refused without a load balancer that carries the nodes")
		}
		if !Supports(c.Cloud, target, r) {
			t.Fatalf("nothing is refused, but kOps has no %s on %s", target, c.Cloud)
		}
	})
}

func TestAClusterOwnsExactlyItsNames(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		c := &Cluster{Name: name.Draw(t, "cluster")}
		for _, own := range c.Names() {
			for _, spelling := range []string{own, own + ".", strings.ToUpper(own)} {
				if !OwnsName(c.Name, spelling) {
					t.Fatalf("%q does not own %q", c.Name, spelling)
				}
			}
			cut := rapid.IntRange(0, len(own)).Draw(t, "cut")
			changed := own[:cut] + rapid.StringN(1, 3, -1).Draw(t, "insert") + own[cut:]
			plain := strings.ToLower(strings.TrimSuffix(changed, "."))
			if want := slices.Contains(c.Names(), plain); OwnsName(c.Name, changed) != want {
				t.Fatalf("OwnsName(%q, %q) is %v", c.Name, changed, !want)
			}
		}
	})
}
