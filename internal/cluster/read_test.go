package cluster

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var compareNet = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

const fullClusterDoc = `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata:
  name: atlas.k8s.local
spec:
  additionalNetworkCIDRs:
  - 10.81.0.0/16
  - fd00:80::/56
  api:
    dns: {}
    loadBalancer:
      class: Network
      type: Internal
      useForInternalApi: true
  cloudProvider: aws
  dnsControllerGossipConfig:
    protocol: memberlist
    listen: "[::]:3993"
    seed: 127.0.0.1:4000
    secondary:
      protocol: ""
      seed: 127.0.0.1
  externalDns:
    provider: external-dns
  gossipConfig:
    protocol: mesh
    listen: :3999
    secret: correct horse
    secondary:
      protocol: memberlist
      secondary:
        protocol: mesh
  kubernetesApiAccess:
  - 0.0.0.0/0
  - ::/0
  - pl-0123456789
  kubernetesVersion: v1.34.2
  masterPublicName: api.atlas.k8s.local
  networkCIDR: 10.80.0.0/16
  nonMasqueradeCIDR: 100.64.0.0/10
  subnets:
  - cidr: 10.80.0.0/19
    name: eu-central-1a
    type: Private
    zone: eu-central-1a
  - name: eu-central-1b
  topology:
    dns:
      type: None
`

func TestParseReadsEveryFieldThatDecidesDiscovery(t *testing.T) {
	got, err := Parse("atlas.yaml", []byte(docs(fullClusterDoc, controlPlaneDoc, nodesDoc)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Cluster{
		Name:              "atlas.k8s.local",
		Cloud:             AWS,
		KubernetesVersion: "v1.34.2",
		DNSType:           DNSNone,
		API: API{
			LoadBalancer: &LoadBalancer{Type: LoadBalancerInternal, Class: LoadBalancerNetwork, UseForInternalAPI: true},
			DNS:          true,
			PublicName:   "api.atlas.k8s.local",
			Access:       prefixes("0.0.0.0/0", "::/0"),
			AccessLists:  []string{"pl-0123456789"},
		},
		NetworkCIDRs:      prefixes("10.80.0.0/16", "10.81.0.0/16", "fd00:80::/56"),
		NonMasqueradeCIDR: netip.MustParsePrefix("100.64.0.0/10"),
		Subnets: []Subnet{
			{Name: "eu-central-1a", CIDR: netip.MustParsePrefix("10.80.0.0/19"), Zone: "eu-central-1a", Type: "Private", Line: 42},
			{Name: "eu-central-1b", Line: 46},
		},
		ExternalDNSProvider: "external-dns",
		Gossip: &GossipConfig{
			Protocol:  ProtocolMesh,
			Listen:    netip.MustParseAddrPort("[::]:3999"),
			Secret:    NewSecret("correct horse"),
			Secondary: &GossipConfig{Protocol: ProtocolMemberlist},
		},
		DNSControllerGossip: &GossipConfig{
			Protocol: ProtocolMemberlist,
			Listen:   netip.MustParseAddrPort("[::]:3993"),
			Seed:     netip.MustParseAddrPort("127.0.0.1:4000"),
			Secondary: &GossipConfig{
				ProtocolEmpty: true,
				Seed:          netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0),
			},
		},
		Groups: []Group{
			{Name: "control-plane", Role: RoleControlPlane, MinSize: 1, MaxSize: 1, Subnets: []string{"eu-central-1a"}, Line: 54},
			{Name: "nodes", Role: RoleNode, MinSize: 2, MaxSize: 3, Subnets: []string{"eu-central-1a"}, Line: 64},
		},
		Line: 4,
	}
	if diff := cmp.Diff(want, got, compareNet); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}
}

// withoutLines drops what differs between spellings of the same cluster.
func withoutLines(c *Cluster) *Cluster {
	c.Line = 0
	for i := range c.Subnets {
		c.Subnets[i].Line = 0
	}
	for i := range c.Groups {
		c.Groups[i].Line = 0
	}
	return c
}

func mustParse(t *testing.T, text string) *Cluster {
	t.Helper()
	c, err := Parse("atlas.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return c
}

func TestOtherSpellingsMeanTheSameCluster(t *testing.T) {
	want := withoutLines(mustParse(t, strings.Replace(soundManifest, "aws\n",
		"aws\n  topology: {dns: {type: Private}}\n  api: {loadBalancer: {useForInternalApi: true}}\n  masterPublicName: 203.0.113.7\n", 1)))
	internal := `apiVersion: kops.k8s.io/v1alpha2
kind: Cluster
metadata: {name: atlas.k8s.local}
spec:
  api: {loadBalancer: {useForInternalAPI: true}, publicName: 203.0.113.7}
  cloudProvider: {aws: {}}
  networking:
    networkCIDR: 10.80.0.0/16
    subnets: [{name: eu-central-1a, cidr: 10.80.0.0/19}]
    topology: {dns: Private}
`
	plain := docs(internal, controlPlaneDoc, nodesDoc)
	tests := map[string]string{
		"the fields of the internal version":   plain,
		"DNS as a bare type below topology":    strings.Replace(strings.Replace(plain, "    topology: {dns: Private}\n", "", 1), "  networking:\n", "  topology: {dns: Private}\n  networking:\n", 1),
		"groups with the label of the cluster": strings.ReplaceAll(plain, "  name: ", "  labels: {kops.k8s.io/cluster: atlas.k8s.local}\n  name: "),
		"the older API group":                  strings.ReplaceAll(plain, "kops.k8s.io/v1alpha2", "kops/v1alpha2"),
		"the newer word for masters":           strings.ReplaceAll(plain, "Master", "ControlPlane"),
		"with the administrator's key":         docs(plain, "apiVersion: kops.k8s.io/v1alpha2\nkind: SSHCredential\nmetadata: {name: admin}\n"),
		"with empty documents":                 "---\n" + plain + "---\n",
		"explicit nulls":                       strings.Replace(plain, "spec:\n", "spec:\n  gossipConfig:\n  kubernetesVersion: null\n  kubernetesApiAccess: ~\n", 1),
		"aliases and merge keys": docs(internal,
			"x-subnets: &subnets [eu-central-1a]\n"+strings.Replace(controlPlaneDoc, "[eu-central-1a]", "*subnets", 1),
			"x-spec: &spec {role: Node, minSize: 9, maxSize: 3}\n"+
				"apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: nodes}\nspec: {<<: [*spec], minSize: 2, subnets: *subnets}\n"),
		"a List": "apiVersion: v1\nkind: List\nitems:\n" +
			"- {apiVersion: kops.k8s.io/v1alpha2, kind: Cluster, metadata: {name: atlas.k8s.local}, spec: {cloudProvider: aws, api: {loadBalancer: {useForInternalApi: true}, publicName: 203.0.113.7}, networkCIDR: 10.80.0.0/16, topology: {dns: {type: Private}}, subnets: [{name: eu-central-1a, cidr: 10.80.0.0/19}]}}\n" +
			"- null\n" +
			"- {apiVersion: kops.k8s.io/v1alpha2, kind: InstanceGroup, metadata: {name: control-plane}, spec: {role: Master, minSize: 1, maxSize: 1, subnets: [eu-central-1a]}}\n" +
			"- {apiVersion: kops.k8s.io/v1alpha2, kind: InstanceGroup, metadata: {name: nodes}, spec: {role: Node, minSize: 2, maxSize: 3, subnets: [eu-central-1a]}}\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			got := withoutLines(mustParse(t, text))
			if diff := cmp.Diff(want, got, compareNet); diff != "" {
				t.Errorf("cluster (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEmptyFieldIsToldFromAMissingOne(t *testing.T) {
	const cloudLine = "  cloudProvider: aws\n"
	tests := []struct {
		name  string
		field string
		holds func(*Cluster) bool
	}{
		{"an empty load balancer is a load balancer", "api: {loadBalancer: {}}", func(c *Cluster) bool { return c.API.LoadBalancer != nil }},
		{"a null load balancer is none", "api: {loadBalancer: null}", func(c *Cluster) bool { return c.API.LoadBalancer == nil }},
		{"an empty API DNS is API DNS", "api: {dns: {}}", func(c *Cluster) bool { return c.API.DNS }},
		{"a null API DNS is none", "api: {dns: null}", func(c *Cluster) bool { return !c.API.DNS }},
		{"an empty gossip configuration is one", "gossipConfig: {}", func(c *Cluster) bool { return c.Gossip != nil }},
		{"a null gossip configuration is none", "gossipConfig: null", func(c *Cluster) bool { return c.Gossip == nil }},
		{"an empty dns-controller configuration is one", "dnsControllerGossipConfig: {}", func(c *Cluster) bool { return c.DNSControllerGossip != nil }},
		{"an empty secret is none", `gossipConfig: {secret: ""}`, func(c *Cluster) bool { return !c.Gossip.Secret.Set() }},
		{"an absent protocol is not an empty one", "gossipConfig: {}", func(c *Cluster) bool { return !c.Gossip.ProtocolEmpty }},
		{"a missing DNS type stays open", "topology: {}", func(c *Cluster) bool { return c.DNSType == "" }},
		{"a missing class stays open", "api: {loadBalancer: {}}", func(c *Cluster) bool { return c.API.LoadBalancer.Class == "" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if c := mustParse(t, swapped(t, cloudLine, cloudLine+"  "+tt.field+"\n")); !tt.holds(c) {
				t.Errorf("it does not hold for %+v", c)
			}
		})
	}
}

func TestMissingSizesAreFilledInAsKopsDoes(t *testing.T) {
	tests := []struct {
		name             string
		role, sizes      string
		minSize, maxSize int
	}{
		{"a control-plane group has one node", "Master", "", 1, 1},
		{"a bastion group has one node", "Bastion", "", 1, 1},
		{"a worker group has two", "Node", "", 2, 2},
		{"an API server group has two", "APIServer", "", 2, 2},
		{"a written maximum bounds the missing minimum", "Node", "maxSize: 1", 1, 1},
		{"a written maximum leaves the missing minimum alone", "Node", "maxSize: 9", 2, 9},
		{"a written minimum raises the missing maximum", "Node", "minSize: 5", 5, 5},
		{"a written minimum leaves the missing maximum alone", "Node", "minSize: 1", 1, 2},
		{"zero is a size", "Node", "minSize: 0, maxSize: 0", 0, 0},
		{"null is no size", "Node", "minSize: null, maxSize: ~", 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc := "apiVersion: kops.k8s.io/v1alpha2\nkind: InstanceGroup\nmetadata: {name: extra}\nspec: {role: " + tt.role + ", " + tt.sizes + "}\n"
			groups := mustParse(t, docs(soundManifest, doc)).Groups
			g := groups[len(groups)-1]
			if g.MinSize != tt.minSize || g.MaxSize != tt.maxSize || g.Size() != tt.minSize {
				t.Errorf("got %d to %d and size %d, want %d to %d", g.MinSize, g.MaxSize, g.Size(), tt.minSize, tt.maxSize)
			}
		})
	}
}

func TestEveryCloudIsReadInBothSpellings(t *testing.T) {
	for _, cloud := range []Cloud{AWS, Azure, DigitalOcean, GCE, Hetzner, Linode, Metal, OpenStack, Scaleway} {
		for _, text := range []string{string(cloud), "{" + string(cloud) + ": {}}", "{" + string(cloud) + ": }"} {
			if got := mustParse(t, swapped(t, "aws", text)).Cloud; got != cloud {
				t.Errorf("cloudProvider: %s reads as %q, want %q", text, got, cloud)
			}
		}
	}
}

func TestTheExampleIsAGossipClusterThatKops136MakesHybrid(t *testing.T) {
	const file = "../../examples/atlas.k8s.local.yaml"
	data, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(file, data)
	if err != nil {
		t.Fatal(err)
	}
	type shape struct {
		Name                                      string
		ControlPlaneGroups, ControlPlanes         int
		WorkerGroups, Workers                     int
		Topology134, Topology135, Topology136     Topology
		RefusalsTo136None, RefusalsTo137None      int
		NetworkCIDR, SecondGroupsControlPlaneZone string
	}
	got := shape{
		Name:               c.Name,
		ControlPlaneGroups: len(c.GroupsOf(RoleControlPlane)), ControlPlanes: c.Size(RoleControlPlane),
		WorkerGroups: len(c.GroupsOf(RoleNode)), Workers: c.Size(RoleNode),
		Topology134: c.Topology(Release134), Topology135: c.Topology(Release135), Topology136: c.Topology(Release136),
		RefusalsTo136None: len(c.Refusals(None, Release136)), RefusalsTo137None: len(c.Refusals(None, Release137)),
		NetworkCIDR: c.NetworkCIDRs[0].String(), SecondGroupsControlPlaneZone: c.GroupsOf(RoleControlPlane)[1].Subnets[0],
	}
	want := shape{
		Name:               "atlas.k8s.local",
		ControlPlaneGroups: 3, ControlPlanes: 3,
		WorkerGroups: 2, Workers: 6,
		Topology134: Gossip, Topology135: Gossip, Topology136: Hybrid,
		NetworkCIDR: "10.80.0.0/16", SecondGroupsControlPlaneZone: "eu-central-1b",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("example (-want +got):\n%s", diff)
	}
}

// TestSampleSpecsParse reads specs that a real kOps wrote, where they are at
// hand.
func TestSampleSpecsParse(t *testing.T) {
	const dir = "../../../shared/samples/specs"
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("SKIPPED: no sample specs in %s; the manifests in this package's tests still ran, but nothing that kOps itself wrote", dir)
	}
	wants := map[string][2]Topology{ // under 1.35, under 1.36
		"gossip-1.35.yaml":                 {Gossip, Hybrid},
		"gossip-1.35-classic-lb.yaml":      {Gossip, Gossip},
		"gossip-1.35-no-lb.yaml":           {Gossip, Gossip},
		"hybrid-1.36.yaml":                 {Gossip, Hybrid},
		"hybrid-1.36-empty-endpoints.yaml": {Gossip, Hybrid},
		"none-1.36.yaml":                   {None, None},
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(name, data)
			if err != nil {
				t.Fatal(err)
			}
			if want, ok := wants[name]; ok {
				if got := [2]Topology{c.Topology(Release135), c.Topology(Release136)}; got != want {
					t.Errorf("topologies under 1.35 and 1.36: got %v, want %v", got, want)
				}
			}
		})
	}
}
