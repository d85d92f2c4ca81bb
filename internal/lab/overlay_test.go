package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

func TestOverlayFollowsTheSpec(t *testing.T) {
	for _, tt := range []struct {
		name               string
		gossip             *cluster.GossipConfig
		want               Overlay
		primary, secondary cluster.GossipProtocol // of a lab on both
	}{
		{"a spec that says nothing", nil, Native, cluster.ProtocolMesh, cluster.ProtocolMemberlist},
		{"an empty section means kOps's defaults", &cluster.GossipConfig{}, Both, cluster.ProtocolMesh, cluster.ProtocolMemberlist},
		{"the mesh keeps its secondary", &cluster.GossipConfig{Protocol: cluster.ProtocolMesh}, Both, cluster.ProtocolMesh, cluster.ProtocolMemberlist},
		{"memberlist first", &cluster.GossipConfig{Protocol: cluster.ProtocolMemberlist, Secondary: &cluster.GossipConfig{Protocol: cluster.ProtocolMesh}}, Both, cluster.ProtocolMemberlist, cluster.ProtocolMesh},
		{"memberlist twice is memberlist", &cluster.GossipConfig{Protocol: cluster.ProtocolMemberlist}, KopsMemberlist, cluster.ProtocolMesh, cluster.ProtocolMemberlist},
		{"the mesh twice is the mesh", &cluster.GossipConfig{Secondary: &cluster.GossipConfig{Protocol: cluster.ProtocolMesh}}, Weave, cluster.ProtocolMesh, cluster.ProtocolMemberlist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := spec(true)
			c.Gossip = tt.gossip
			if got := OverlayOf(c); got != tt.want {
				t.Errorf("overlay %s, want %s", got, tt.want)
			}
			l := &Lab{cfg: Config{Cluster: c, Overlay: Both}}
			if primary, secondary := l.overlays(); primary != tt.primary || secondary != tt.secondary {
				t.Errorf("on both: %s and %s, want %s and %s", primary, secondary, tt.primary, tt.secondary)
			}
		})
	}
	for _, s := range []string{"native", "weave", "kops-memberlist", "both"} {
		if o, err := ParseOverlay(s); err != nil || string(o) != s {
			t.Errorf("%s: %q, %v", s, o, err)
		}
	}
	if _, err := ParseOverlay("mesh"); err == nil || !strings.Contains(err.Error(), "weave") {
		t.Errorf("an unknown overlay gave %v; want the list", err)
	}
}

// legacyLab is a lab of a control-plane node and a worker on an overlay. Nothing
// runs.
func legacyLab(t *testing.T, o Overlay) *Lab {
	t.Helper()
	c := spec(true, group("cp", cluster.RoleControlPlane, 1), group("w", cluster.RoleNode, 1))
	c.Gossip = &cluster.GossipConfig{Secret: cluster.NewSecret("quite secret"), Secondary: &cluster.GossipConfig{Secret: cluster.NewSecret("secret too")}}
	layout, err := NewLayout(c, testNetwork)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{cfg: Config{Cluster: c, Overlay: o, Dir: t.TempDir()}, layout: layout, machines: make(map[string]*machine)}
	for _, n := range layout.Nodes {
		m := newMachine(n, filepath.Join(l.cfg.Dir, n.Name), l.legacy())
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		l.machines[n.Name] = m
	}
	return l
}

func TestALegacyPeersFlags(t *testing.T) {
	for _, tt := range []struct {
		name    string
		overlay Overlay
		node    string
		split   bool
		has     []string
		hasNot  string // the beginning of a flag
	}{
		{name: "a worker on the mesh", overlay: Weave, node: "w", has: []string{"--gossip-protocol=mesh", "--gossip-listen=127.90.2.1:3999", "--gossip-protocol-secondary="}, hasNot: "--publish"},
		{name: "one overlay listens once", overlay: KopsMemberlist, node: "w", has: []string{"--gossip-protocol=memberlist", "--gossip-listen=127.90.2.1:4000", "--gossip-protocol-secondary="}, hasNot: "--gossip-listen-secondary"},
		{name: "both", overlay: Both, node: "w", has: []string{"--gossip-protocol=mesh", "--gossip-listen=127.90.2.1:3999", "--gossip-protocol-secondary=memberlist", "--gossip-listen-secondary=127.90.2.1:4000"}},
		{name: "cut off", overlay: Both, node: "w", split: true, has: []string{"--gossip-listen=127.90.2.1:13999", "--gossip-listen-secondary=127.90.2.1:14000"}},
		{name: "a control-plane node publishes", overlay: Weave, node: "cp", has: []string{"--publish=api.internal=127.90.1.1:6443/readyz", "--publish=kops-controller.internal=127.90.1.1:6443/readyz"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := legacyLab(t, tt.overlay)
			m := l.machines[tt.node]
			m.split = tt.split
			got := l.protokubeFlags(m)
			for _, want := range tt.has {
				if !slices.Contains(got, want) {
					t.Errorf("no %s in %q", want, got)
				}
			}
			for _, flag := range got {
				if strings.Contains(flag, "quite secret") || tt.hasNot != "" && strings.HasPrefix(flag, tt.hasNot) {
					t.Errorf("%s is among the flags", flag)
				}
			}
		})
	}
}

// A node that reboots has the configuration that it was made with.
func TestALegacyPeerKeepsItsFlags(t *testing.T) {
	l := legacyLab(t, Both)
	m := l.machines["w"]
	first, err := l.peerFlags(m)
	if err != nil {
		t.Fatal(err)
	}
	m.Addr = netip.MustParseAddr("127.90.4.1")
	again, err := l.peerFlags(m)
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("flags changed without a reason: %v\n%q\n%q", err, first, again)
	}
	if err := m.removeConfigs(Peer); err != nil {
		t.Fatal(err)
	}
	if again, err = l.peerFlags(m); err != nil || slices.Equal(first, again) {
		t.Errorf("made anew with the old flags: %v", err)
	}
}

func TestSecretsOfALegacyOverlayAreFilesOfTheirOwn(t *testing.T) {
	l := legacyLab(t, Both)
	m := l.machines["w"]
	if err := l.writeGossipSecrets(m); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"gossip-secret": "quite secret\n", "gossip-secret-secondary": "secret too\n"} {
		info, err := os.Stat(m.path(file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(m.path(file))
		if err != nil || string(got) != want || info.Mode() != 0o600 {
			t.Errorf("%s: %q, mode %v, %v", file, got, info.Mode(), err)
		}
	}
}
