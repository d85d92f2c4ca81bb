package cluster

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRefusalsNameWhatStandsInTheWay(t *testing.T) {
	type outline struct {
		Code        Code
		KopsAccepts bool
		Path        string
	}
	with := func(c *Cluster, change func(*Cluster)) *Cluster { change(c); return c }
	ready := func() *Cluster { return spec(gossipName, DNSPrivate, AWS, network) }
	const (
		lbPath    = "spec.api.loadBalancer"
		classPath = "spec.api.loadBalancer.class"
		loopPath  = "spec.api.loadBalancer.useForInternalApi"
		namePath  = "metadata.name"
	)
	apiServers := func(c *Cluster) {
		c.Groups = append(c.Groups, Group{Name: "api-a", Role: RoleAPIServer}, Group{Name: "nodes", Role: RoleNode}, Group{Name: "api-b", Role: RoleAPIServer})
	}
	tests := []struct {
		name    string
		cluster *Cluster
		target  Topology
		release Release
		want    []outline
	}{
		{"nothing stands between a fit gossip cluster and None in 1.36", ready(), None, Release136, nil},
		{"nothing does in 1.35 either", ready(), None, Release135, nil},
		{"nothing does in 1.37 once the gossip fields are gone", ready(), None, Release137, nil},
		{"nothing stands between a fit gossip cluster and hybrid in 1.36", ready(), Hybrid, Release136, nil},
		{"nothing stands against the gossip that a cluster has in 1.35", ready(), Gossip, Release135, nil},
		{"a hosted cluster may stay public", spec(hostedName, DNSPublic, AWS, noBalancer), Public, Release137, nil},
		{"a hosted cluster may become private", spec(hostedName, DNSPublic, AWS, classic), Private, Release136, nil},
		{"a name without a dot is fine with None", spec("atlas", DNSNone, Metal, withoutType), None, Release136, nil},

		{"AWS None with a classic load balancer", spec(gossipName, DNSPrivate, AWS, classic), None, Release136,
			[]outline{{CodeLoadBalancerClass, false, classPath}}},
		{"AWS None with no class, which means classic", spec(gossipName, DNSPrivate, AWS, withoutType), None, Release136,
			[]outline{{CodeLoadBalancerClass, false, classPath}}},
		{"AWS hybrid with a classic load balancer, which kOps leaves in gossip", spec(gossipName, DNSPrivate, AWS, classic), Hybrid, Release136,
			[]outline{{CodeLoadBalancerClass, true, classPath}}},
		{"GCE has no class to mind", spec(gossipName, DNSPrivate, GCE, withoutType), None, Release136, nil},
		{"1.37 refuses a classic load balancer whatever the topology", spec(hostedName, DNSPublic, AWS, withoutType), Public, Release137,
			[]outline{{CodeLoadBalancerClass, false, classPath}}},
		{"None without a load balancer, which kOps accepts", spec(gossipName, DNSPrivate, AWS, noBalancer), None, Release136,
			[]outline{{CodeNoLoadBalancer, true, lbPath}}},
		{"None without a load balancer on another cloud", spec(gossipName, DNSPrivate, Hetzner, noBalancer), None, Release136,
			[]outline{{CodeNoLoadBalancer, true, lbPath}}},
		{"hybrid without a load balancer", spec(gossipName, DNSPrivate, AWS, noBalancer), Hybrid, Release136,
			[]outline{{CodeNoLoadBalancer, true, lbPath}}},
		{"an internal network load balancer for the internal API", spec(gossipName, DNSPrivate, AWS,
			&LoadBalancer{Type: LoadBalancerInternal, Class: LoadBalancerNetwork, UseForInternalAPI: true}), None, Release136,
			[]outline{{CodeInternalLoop, false, loopPath}}},
		{"an internal classic one, which has to become a network one", spec(gossipName, DNSPrivate, AWS,
			&LoadBalancer{Type: LoadBalancerInternal, UseForInternalAPI: true}), None, Release136,
			[]outline{{CodeLoadBalancerClass, false, classPath}, {CodeInternalLoop, false, loopPath}}},
		{"an internal classic one may serve hosted DNS", spec(hostedName, DNSPublic, AWS,
			&LoadBalancer{Type: LoadBalancerInternal, Class: LoadBalancerClassic, UseForInternalAPI: true}), Public, Release136, nil},

		{"groups of role APIServer with None", with(ready(), apiServers), None, Release136,
			[]outline{{CodeAPIServerRole, false, `instance group "api-a": spec.role`}, {CodeAPIServerRole, false, `instance group "api-b": spec.role`}}},
		{"groups of role APIServer may stay in hybrid", with(ready(), apiServers), Hybrid, Release136, nil},
		{"groups of role APIServer outside AWS and GCE", with(spec(hostedName, DNSPublic, OpenStack, noBalancer), apiServers), Public, Release136,
			[]outline{{CodeAPIServerCloud, false, `instance group "api-a": spec.role`}, {CodeAPIServerCloud, false, `instance group "api-b": spec.role`}}},
		{"external-dns with None", with(ready(), func(c *Cluster) { c.ExternalDNSProvider = "external-dns" }), None, Release136,
			[]outline{{CodeExternalDNS, false, "spec.externalDns.provider"}}},
		{"external-dns with hosted DNS", with(spec(hostedName, "", AWS, network), func(c *Cluster) { c.ExternalDNSProvider = "external-dns" }), Public, Release136, nil},
		{"dns-controller named as the provider", with(ready(), func(c *Cluster) { c.ExternalDNSProvider = "dns-controller" }), None, Release136, nil},

		{"gossip fields in 1.37, even empty", with(ready(), func(c *Cluster) { c.Gossip, c.DNSControllerGossip = &GossipConfig{}, &GossipConfig{} }), None, Release137,
			[]outline{{CodeGossipFields, false, "spec.gossipConfig"}, {CodeGossipFields, false, "spec.dnsControllerGossipConfig"}}},
		{"gossip fields of a hosted cluster in 1.37", with(spec(hostedName, "", AWS, network), func(c *Cluster) { c.Gossip = &GossipConfig{} }), Public, Release137,
			[]outline{{CodeGossipFields, false, "spec.gossipConfig"}}},
		{"gossip fields in 1.36", with(ready(), func(c *Cluster) { c.Gossip, c.DNSControllerGossip = &GossipConfig{}, &GossipConfig{} }), None, Release136, nil},

		{"gossip in 1.37", ready(), Gossip, Release137, []outline{{CodeReleaseWithoutGossip, false, dnsTypePath}}},
		{"hybrid in 1.37", ready(), Hybrid, Release137, []outline{{CodeReleaseWithoutGossip, false, dnsTypePath}}},
		{"hybrid in 1.35", ready(), Hybrid, Release135, []outline{{CodeReleaseWithoutHybrid, false, dnsTypePath}}},
		{"gossip in 1.36 where it becomes hybrid", ready(), Gossip, Release136, []outline{{CodeBecomesHybrid, true, lbPath}}},
		{"gossip in 1.36 with a classic load balancer stays", spec(gossipName, DNSPrivate, AWS, classic), Gossip, Release136, nil},
		{"gossip in 1.36 on AWS without a load balancer stays", spec(gossipName, DNSPrivate, AWS, noBalancer), Gossip, Release136, nil},
		{"gossip in 1.36 elsewhere without a load balancer", spec(gossipName, DNSPrivate, GCE, noBalancer), Gossip, Release136,
			[]outline{{CodeWorkersStripped, true, lbPath}}},
		{"gossip in 1.35 elsewhere without a load balancer", spec(gossipName, DNSPrivate, GCE, noBalancer), Gossip, Release135, nil},
		{"private DNS on a cloud that has none", spec(hostedName, DNSPublic, DigitalOcean, withoutType), Private, Release136,
			[]outline{{CodeCloudTopology, false, dnsTypePath}}},
		{"gossip on metal", spec(gossipName, DNSPrivate, Metal, noBalancer), Gossip, Release136,
			[]outline{{CodeCloudTopology, false, dnsTypePath}}},
		{"a topology that does not exist", ready(), "mesh", Release136, []outline{{CodeCloudTopology, false, dnsTypePath}}},

		{"hosted DNS for a gossip name", ready(), Private, Release136, []outline{{CodeNameIsGossip, false, namePath}}},
		{"gossip for a hosted name", spec(hostedName, DNSPublic, AWS, classic), Gossip, Release135, []outline{{CodeNameNotGossip, false, namePath}}},
		{"hosted DNS for a name without a dot", spec("atlas", DNSPublic, AWS, network), Public, Release136, []outline{{CodeNameWithoutDot, false, namePath}}},

		{"everything at once, in the order of the checks", with(spec(gossipName, DNSPrivate, AWS, classic), func(c *Cluster) {
			apiServers(c)
			c.ExternalDNSProvider = "external-dns"
			c.Gossip = &GossipConfig{}
		}), None, Release137, []outline{
			{CodeGossipFields, false, "spec.gossipConfig"},
			{CodeLoadBalancerClass, false, classPath},
			{CodeExternalDNS, false, "spec.externalDns.provider"},
			{CodeAPIServerRole, false, `instance group "api-a": spec.role`},
			{CodeAPIServerRole, false, `instance group "api-b": spec.role`},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []outline
			for _, f := range tt.cluster.Refusals(tt.target, tt.release) {
				got = append(got, outline{f.Code, f.KopsAccepts, f.Path})
				for part, s := range map[string]string{"why": f.Why, "next": f.Next} {
					if s == "" || strings.HasSuffix(s, ".") || strings.ContainsAny(s, "\n;") {
						t.Errorf("%s of %s is not one sentence without a stop: %q", part, f.Code, s)
					}
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARefusalReadsAsOneLine(t *testing.T) {
	got := spec(gossipName, DNSPrivate, AWS, withoutType).Refusals(None, Release136)[0].String()
	want := "spec.api.loadBalancer.class: a missing class means Classic, and a classic load balancer does not carry the nodes' traffic; " +
		"set class Network first, which replaces the load balancer, then export the kubeconfig again and delete the classic one by hand"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
