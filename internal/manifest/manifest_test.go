package manifest_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/manifest"
)

var clouds = []cluster.Cloud{
	cluster.AWS, cluster.Azure, cluster.DigitalOcean, cluster.GCE, cluster.Hetzner,
	cluster.Linode, cluster.Metal, cluster.OpenStack, cluster.Scaleway,
}

func parse(t *testing.T, m *manifest.Manifest) *cluster.Cluster {
	t.Helper()
	docs := [][]byte{m.Cluster.Data}
	for _, g := range m.Groups {
		docs = append(docs, g.Data)
	}
	c, err := cluster.Parse("new.yaml", bytes.Join(docs, []byte("---\n")))
	if err != nil {
		t.Fatalf("%v\n%s", err, bytes.Join(docs, []byte("---\n")))
	}
	return c
}

func TestEveryCloudGetsANoneClusterUnderAnyName(t *testing.T) {
	for _, cloud := range clouds {
		for _, name := range []string{"atlas.k8s.local", "atlas.example.com", "atlas"} {
			t.Run(fmt.Sprintf("%s %s", cloud, name), func(t *testing.T) {
				m, err := manifest.New(manifest.Config{
					Name: name, Cloud: cloud, Zones: []string{"us-east-1-a", "us-east-1-b"}, KubernetesVersion: "1.34.2",
					ControlPlaneCount: 3, NodeCount: 5, Project: "p", StateStore: "s3://kops-state/",
				})
				if err != nil {
					t.Fatal(err)
				}
				c := parse(t, m)
				if c.Name != name || c.Cloud != cloud || c.Size(cluster.RoleControlPlane) != 3 || c.Size(cluster.RoleNode) != 5 {
					t.Errorf("got %+v", c)
				}
				for _, r := range cluster.Releases() {
					if c.Topology(r) != cluster.None {
						t.Errorf("kOps %s takes it for %s", r, c.Topology(r))
					}
					for _, f := range c.Refusals(cluster.None, r) {
						if !f.KopsAccepts || cloud != cluster.Metal {
							t.Errorf("kOps %s: %s", r, f)
						}
					}
				}
				if !strings.Contains(string(m.Cluster.Data), "configBase: s3://kops-state/"+name+"\n") {
					t.Errorf("no configBase in\n%s", m.Cluster.Data)
				}
			})
		}
	}
}

func TestSubnetsShareTheNetworkWithoutOverlap(t *testing.T) {
	for _, network := range []string{"172.20.0.0/16", "10.0.0.0/8", "192.168.4.0/24"} {
		var zones []string
		for i := range 8 {
			zones = append(zones, fmt.Sprintf("us-east-1%c", 'a'+i))
		}
		m, err := manifest.New(manifest.Config{Name: "a.b", Cloud: cluster.AWS, Zones: zones, KubernetesVersion: "1.34.2", Network: netip.MustParsePrefix(network)})
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, m)
		for i, s := range c.Subnets {
			if !netip.MustParsePrefix(network).Contains(s.CIDR.Addr()) {
				t.Errorf("%s is outside %s", s.CIDR, network)
			}
			for _, other := range c.Subnets[:i] {
				if s.CIDR.Overlaps(other.CIDR) {
					t.Errorf("%s and %s overlap", s.CIDR, other.CIDR)
				}
			}
		}
	}
}

func TestEachControlPlaneNodeIsAMemberOfEtcd(t *testing.T) {
	m, err := manifest.New(manifest.Config{Name: "a.b", Cloud: cluster.AWS, Zones: []string{"us-east-1a", "us-east-1b"}, KubernetesVersion: "1.34.2", ControlPlaneCount: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range parse(t, m).GroupsOf(cluster.RoleControlPlane) {
		if n := strings.Count(string(m.Cluster.Data), "instanceGroup: "+g.Name+"\n"); n != 2 {
			t.Errorf("%s is named %d times, want once in main and once in events", g.Name, n)
		}
	}
}

func TestEveryFaultIsReported(t *testing.T) {
	_, err := manifest.New(manifest.Config{Name: "a", Cloud: "vax", ControlPlaneCount: 2, NodeCount: -1, LoadBalancer: "x", Network: netip.MustParsePrefix("fd00::/16")})
	for _, want := range []string{`cloud "vax"`, "no version of kubernetes", "2 control-plane nodes", "-1 nodes", `load balancer type "x"`, "0 zones", "network fd00::/16"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	_, err = manifest.New(manifest.Config{Name: "a", Cloud: cluster.AWS, KubernetesVersion: "1.34", Zones: []string{"us-east-1a", "us-east-1a", "eu-west-1a", "A"}})
	for _, want := range []string{`version of kubernetes "1.34"`, "twice", "two regions", `zone "A"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if _, err = manifest.New(manifest.Config{Name: "a", Cloud: cluster.GCE, KubernetesVersion: "1.34.2", Zones: []string{"us-central1-a"}}); err == nil || !strings.Contains(err.Error(), "no project") {
		t.Errorf("gce without a project: %v", err)
	}
}
