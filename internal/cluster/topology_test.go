package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	gossipName = "atlas.k8s.local"
	hostedName = "atlas.example.com"
)

var (
	noBalancer  *LoadBalancer
	network     = &LoadBalancer{Type: LoadBalancerPublic, Class: LoadBalancerNetwork}
	classic     = &LoadBalancer{Type: LoadBalancerPublic, Class: LoadBalancerClassic}
	withoutType = &LoadBalancer{}
)

func spec(name string, dns DNSType, cloud Cloud, lb *LoadBalancer) *Cluster {
	return &Cluster{Name: name, DNSType: dns, Cloud: cloud, API: API{LoadBalancer: lb}}
}

// answers is what every predicate says about one cluster under one release.
type answers struct {
	Topology                           Topology
	NoneDNS, LegacyGossip, Publishes   bool
	PublicDNS, PrivateDNS              bool
	BalancerForController, ConfigByAPI bool
}

func answersOf(c *Cluster, r Release) answers {
	return answers{
		Topology:              c.Topology(r),
		NoneDNS:               c.UsesNoneDNS(),
		LegacyGossip:          c.UsesLegacyGossip(r),
		Publishes:             c.PublishesDNSRecords(r),
		PublicDNS:             c.UsesPublicDNS(r),
		PrivateDNS:            c.UsesPrivateDNS(r),
		BalancerForController: c.UsesLoadBalancerForKopsController(r),
		ConfigByAPI:           c.UseKopsControllerForNodeConfig(r),
	}
}

func TestPredicatesAnswerAsEachKopsRelease(t *testing.T) {
	// What never changes for a kind of cluster.
	none := answers{Topology: None, NoneDNS: true, BalancerForController: true, ConfigByAPI: true}
	public := answers{Topology: Public, Publishes: true, PublicDNS: true, ConfigByAPI: true}
	private := answers{Topology: Private, Publishes: true, PrivateDNS: true, ConfigByAPI: true}

	// Gossip under 1.34 and 1.35, where the hosted tests match too.
	oldGossip := answers{Topology: Gossip, LegacyGossip: true, PrivateDNS: true}
	oldGossipPublic := answers{Topology: Gossip, LegacyGossip: true, PublicDNS: true}
	oldGossipServed := answers{Topology: Gossip, LegacyGossip: true, PrivateDNS: true, ConfigByAPI: true}
	oldGossipBalanced := answers{Topology: Gossip, LegacyGossip: true, PrivateDNS: true, BalancerForController: true, ConfigByAPI: true}

	// Gossip under 1.36, and what 1.37 would say had it not refused.
	newGossip := answers{Topology: Gossip, LegacyGossip: true}
	hybrid := answers{Topology: Hybrid, LegacyGossip: true, BalancerForController: true, ConfigByAPI: true}
	refused := answers{Topology: Gossip, Publishes: true, PrivateDNS: true, ConfigByAPI: true}
	refusedPublic := answers{Topology: Gossip, Publishes: true, PublicDNS: true, ConfigByAPI: true}

	tests := []struct {
		name             string
		cluster          *Cluster
		to35, at36, at37 answers
	}{
		{"None wins over a gossip name", spec(gossipName, DNSNone, AWS, network), none, none, none},
		{"None with a hosted name is None", spec(hostedName, DNSNone, AWS, network), none, none, none},
		{"None without a dot in the name is None", spec("atlas", DNSNone, AWS, network), none, none, none},
		{"None claims the load balancer even when there is none", spec(gossipName, DNSNone, AWS, noBalancer), none, none, none},
		{"None does not look at the load balancer's class", spec(gossipName, DNSNone, AWS, classic), none, none, none},
		{"None on a cloud that has nothing else", spec(hostedName, DNSNone, Metal, noBalancer), none, none, none},

		{"a hosted name with type Public is public", spec(hostedName, DNSPublic, AWS, network), public, public, public},
		{"a hosted name without a type is public", spec(hostedName, "", AWS, noBalancer), public, public, public},
		{"a hosted name with type Private is private", spec(hostedName, DNSPrivate, GCE, network), private, private, private},
		{"bare k8s.local is not a gossip name", spec("k8s.local", DNSPrivate, AWS, network), private, private, private},
		{"a name that only contains the suffix is not a gossip name", spec("atlas.k8s.local.example.com", DNSPublic, AWS, network), public, public, public},

		{"AWS gossip with a network load balancer turns hybrid in 1.36", spec(gossipName, DNSPrivate, AWS, network), oldGossip, hybrid, refused},
		{"AWS gossip with a classic load balancer stays gossip", spec(gossipName, DNSPrivate, AWS, classic), oldGossip, newGossip, refused},
		{"AWS gossip with no class stays gossip, for that means classic", spec(gossipName, DNSPrivate, AWS, withoutType), oldGossip, newGossip, refused},
		{"AWS gossip without a load balancer stays gossip", spec(gossipName, DNSPrivate, AWS, noBalancer), oldGossip, newGossip, refused},
		{"gossip with type Public matches the public test up to 1.35", spec(gossipName, DNSPublic, AWS, classic), oldGossipPublic, newGossip, refusedPublic},
		{"gossip without a type matches the public test up to 1.35", spec(gossipName, "", AWS, classic), oldGossipPublic, newGossip, refusedPublic},
		{"a trailing dot does not hide a gossip name", spec(gossipName+".", DNSPrivate, AWS, network), oldGossip, hybrid, refused},

		{"GCE gossip with a load balancer boots through it before 1.36", spec(gossipName, DNSPrivate, GCE, withoutType), oldGossipBalanced, hybrid, refused},
		{"GCE gossip without a load balancer reads the state store", spec(gossipName, DNSPrivate, GCE, noBalancer), oldGossip, newGossip, refused},
		{"OpenStack gossip with a load balancer turns hybrid in 1.36", spec(gossipName, DNSPrivate, OpenStack, withoutType), oldGossip, hybrid, refused},
		{"OpenStack gossip without a load balancer stays gossip", spec(gossipName, DNSPrivate, OpenStack, noBalancer), oldGossip, newGossip, refused},
		{"Azure gossip with a load balancer turns hybrid in 1.36", spec(gossipName, DNSPrivate, Azure, withoutType), oldGossip, hybrid, refused},
		{"Azure gossip without a load balancer stays gossip", spec(gossipName, DNSPrivate, Azure, noBalancer), oldGossip, newGossip, refused},
		{"Hetzner gossip is served by kops-controller before 1.36", spec(gossipName, DNSPrivate, Hetzner, noBalancer), oldGossipServed, newGossip, refused},
		{"Hetzner gossip with a load balancer turns hybrid in 1.36", spec(gossipName, DNSPrivate, Hetzner, withoutType), oldGossipServed, hybrid, refused},
		{"Scaleway gossip is served by kops-controller before 1.36", spec(gossipName, DNSPrivate, Scaleway, noBalancer), oldGossipServed, newGossip, refused},
		{"Scaleway gossip with a load balancer turns hybrid in 1.36", spec(gossipName, DNSPrivate, Scaleway, withoutType), oldGossipServed, hybrid, refused},
		{"DigitalOcean gossip is served by kops-controller before 1.36", spec(gossipName, DNSPrivate, DigitalOcean, noBalancer), oldGossipServed, newGossip, refused},
		{"DigitalOcean gossip with a load balancer turns hybrid in 1.36", spec(gossipName, DNSPrivate, DigitalOcean, withoutType), oldGossipServed, hybrid, refused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := map[Release]answers{
				Release134: tt.to35, Release135: tt.to35, Release136: tt.at36, Release137: tt.at37,
			}
			for _, r := range Releases() {
				if diff := cmp.Diff(want[r], answersOf(tt.cluster, r)); diff != "" {
					t.Errorf("under %s (-want +got):\n%s", r, diff)
				}
			}
		})
	}
}

func TestCloudsSupportTheTopologiesOfTheKopsMatrix(t *testing.T) {
	all := []Topology{None, Gossip, Public, Private}
	matrix := map[Cloud][]Topology{
		AWS:          all,
		Azure:        {None, Gossip},
		DigitalOcean: {None, Gossip, Public},
		GCE:          all,
		Hetzner:      {None, Gossip},
		Linode:       {None},
		Metal:        {None},
		OpenStack:    all,
		Scaleway:     {None, Gossip, Public},
		"alicloud":   nil,
		"":           nil,
	}
	for cloud, row := range matrix {
		in := map[Topology]bool{}
		for _, topology := range row {
			in[topology] = true
		}
		for _, r := range Releases() {
			want := map[Topology]bool{
				None: in[None], Public: in[Public], Private: in[Private],
				Gossip: in[Gossip] && r != Release137,
				Hybrid: in[Gossip] && r == Release136,
			}
			for _, topology := range Topologies() {
				if got := Supports(cloud, topology, r); got != want[topology] {
					t.Errorf("%s on %q under %s: got %v, want %v", topology, cloud, r, got, want[topology])
				}
			}
		}
	}
	if Supports(AWS, "mesh", Release136) {
		t.Error("an unknown topology is supported")
	}
}

func TestTopologiesAreReadByName(t *testing.T) {
	for _, want := range Topologies() {
		if got, err := ParseTopology(string(want)); got != want || err != nil {
			t.Errorf("ParseTopology(%q) = %q, %v", want, got, err)
		}
	}
	for _, s := range []string{"", "None", "dns"} {
		if got, err := ParseTopology(s); err == nil {
			t.Errorf("ParseTopology(%q) = %q, want an error", s, got)
		}
	}
}

func TestReleasesAreReadFromKopsVersions(t *testing.T) {
	tests := []struct {
		name, version string
		want          Release // 0 for an error
	}{
		{"a release line", "1.36", Release136},
		{"a release", "1.35.2", Release135},
		{"a release with its v", "v1.34.3", Release134},
		{"a later pre-release", "1.37.0-beta.1", Release137},
		{"the first alpha of 1.37 still has gossip", "v1.37.0-alpha.1", Release136},
		{"another alpha of 1.37", "1.37.0-alpha.10", Release137},
		{"an older release", "1.33.1", 0},
		{"a release that is not out", "1.38.0", 0},
		{"another major version", "2.36.0", 0},
		{"a word", "stable", 0},
		{"nothing", "", 0},
		{"a sign instead of a number", "1.+36", 0},
		{"too many parts", "1.36.2.1", 0},
		{"an empty part", "1.36.", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRelease(tt.version)
			if got != tt.want || (err == nil) != (tt.want != 0) {
				t.Errorf("ParseRelease(%q) = %v, %v; want %v", tt.version, got, err, tt.want)
			}
		})
	}
}

func TestUnknownReleasesFollowTheirNearestNeighbour(t *testing.T) {
	c := spec(gossipName, DNSPrivate, AWS, network)
	for r, neighbour := range map[Release]Release{0: Release134, 29: Release134, 38: Release137, -1: Release134} {
		if got, want := answersOf(c, r), answersOf(c, neighbour); got != want {
			t.Errorf("%s answers %+v, %s %+v", r, got, neighbour, want)
		}
	}
}

func TestTheDeadlineAgreesWithTheRules(t *testing.T) {
	d := Deadline()
	for _, r := range Releases() {
		if got, want := rulesOf(r).hybrid, r == d.Bridge; got != want {
			t.Errorf("%s knows hybrid: %v, but the bridge is %s", r, got, d.Bridge)
		}
		if got, want := !rulesOf(r).gossip, r >= d.Refused; got != want {
			t.Errorf("%s refuses gossip: %v, but the first to refuse is %s", r, got, d.Refused)
		}
	}
	if d.Refused != d.Bridge+1 {
		t.Errorf("the bridge %s is not the last release before %s", d.Bridge, d.Refused)
	}
	text, err := d.Bridge.MarshalText()
	if string(text) != "1.36" || err != nil {
		t.Errorf("the bridge marshals as %q, %v; want 1.36", text, err)
	}
	if d.DeprecatedSince != "1.29" || len(d.Announced) == 0 {
		t.Errorf("the deadline lacks its history: %+v", d)
	}
}
