package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
)

// Overlay is the overlay over which the nodes of a lab gossip before they leave gossip.
type Overlay string

// The overlays. With all but Native every node runs muster-peer in the place of kOps's protokube, on kOps's own
// ports.
const (
	Native         Overlay = "native"          // Muster's own
	Weave          Overlay = "weave"           // kOps's mesh
	KopsMemberlist Overlay = "kops-memberlist" // kOps's memberlist
	Both           Overlay = "both"            // a primary that is read, and a secondary that is written too
)

// ParseOverlay parses the name of an overlay.
func ParseOverlay(s string) (Overlay, error) {
	switch o := Overlay(s); o {
	case Native, Weave, KopsMemberlist, Both:
		return o, nil
	}
	return "", fmt.Errorf("overlay %q; want %s, %s, %s or %s", s, Native, Weave, KopsMemberlist, Both)
}

// OverlayOf returns the default overlay of a lab of the cluster: Native, or that of the spec's gossipConfig if it has
// one.
func OverlayOf(c *cluster.Cluster) Overlay {
	if c.Gossip == nil {
		return Native
	}
	return KopsOverlayOf(c)
}

// KopsOverlayOf returns the overlay of kOps's own nodes of the cluster.
func KopsOverlayOf(c *cluster.Cluster) Overlay {
	primary, secondary := protocols(c)
	switch {
	case primary != secondary:
		return Both
	case primary == cluster.ProtocolMemberlist:
		return KopsMemberlist
	}
	return Weave
}

// protocols returns the protocols of the primary and the secondary overlay of a kOps cluster, with kOps's defaults.
func protocols(c *cluster.Cluster) (primary, secondary cluster.GossipProtocol) {
	primary, secondary = cluster.ProtocolMesh, cluster.ProtocolMemberlist
	if g := c.Gossip; g != nil {
		if g.Protocol != "" {
			primary = g.Protocol
		}
		if g.Secondary != nil && g.Secondary.Protocol != "" {
			secondary = g.Secondary.Protocol
		}
	}
	return primary, secondary
}

// protokube's ports. The lab uses them whatever the spec says, because each node has its own address.
var protokubePorts = map[cluster.GossipProtocol]uint16{cluster.ProtocolMesh: 3999, cluster.ProtocolMemberlist: 4000}

// splitOffset is added to the ports of peers that are split off.
const splitOffset = 10000

// legacy reports whether the lab's nodes gossip as kOps's do.
func (l *Lab) legacy() bool { return l.cfg.Overlay != Native }

// overlays returns the protocols of the lab's legacy overlays, primary first; the second is empty if there is only
// one.
func (l *Lab) overlays() (primary, secondary cluster.GossipProtocol) {
	switch l.cfg.Overlay {
	case Weave:
		return cluster.ProtocolMesh, ""
	case KopsMemberlist:
		return cluster.ProtocolMemberlist, ""
	}
	primary, secondary = protocols(l.cfg.Cluster)
	if primary == secondary {
		return cluster.ProtocolMesh, cluster.ProtocolMemberlist
	}
	return primary, secondary
}

// protokubeFlags returns the command line of a node's legacy peer. The caller holds m.mu.
func (l *Lab) protokubeFlags(m *machine) []string {
	primary, secondary := l.overlays()
	seeds := l.seedsFile(m)
	if m.split {
		seeds = l.path("seeds.split")
	}
	flags := []string{
		"--cloud=" + string(cluster.Metal),
		"--containerized=false",
		"--gossip=true",
		"--gossip-protocol=" + string(primary),
		"--gossip-listen=" + m.gossipAddr(primary).String(),
		"--gossip-protocol-secondary=" + string(secondary),
		"--node-name=" + m.Name,
		"--cluster=" + l.cfg.Cluster.Name,
		"--seeds-file=" + seeds,
		"--networks=" + l.Layout().Network.String(),
		"--hosts-file=" + m.hostsFile(),
		"--state-dir=" + m.stateDir(l),
		"--status=" + m.socket(Peer),
	}
	if secondary != "" {
		flags = append(flags, "--gossip-listen-secondary="+m.gossipAddr(secondary).String())
	}
	for flag, secret := range l.gossipSecrets() {
		if secret.Set() {
			flags = append(flags, "--"+flag+"-file="+m.path(flag))
		}
	}
	if m.Role == identity.ControlPlane && !l.controllerGone() {
		// The lab has no kops-controller; its API server has that name too.
		api := netip.AddrPortFrom(m.Addr, APIPort)
		flags = append(flags, "--ca="+l.path(filepath.Join("pki", "ca.crt")),
			fmt.Sprintf("--publish=api.internal=%s/readyz", api),
			fmt.Sprintf("--publish=kops-controller.internal=%s/readyz", api))
	}
	return flags
}

// controllerGone reports whether the peers no longer publish for the control plane.
func (l *Lab) controllerGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.controllerRetired
}

// gossipAddr is the listen address of a node's legacy peer. The caller holds m.mu.
func (m *machine) gossipAddr(p cluster.GossipProtocol) netip.AddrPort {
	port := protokubePorts[p]
	if m.split {
		port += splitOffset
	}
	return netip.AddrPortFrom(m.Addr, port)
}

// gossipSecrets returns the secrets of the spec's gossipConfig, by protokube's flags.
func (l *Lab) gossipSecrets() map[string]cluster.Secret {
	secrets := make(map[string]cluster.Secret)
	if g := l.cfg.Cluster.Gossip; g != nil {
		secrets["gossip-secret"] = g.Secret
		if g.Secondary != nil && l.cfg.Overlay == Both {
			secrets["gossip-secret-secondary"] = g.Secondary.Secret
		}
	}
	return secrets
}

// writeGossipSecrets writes the overlays' secrets for a node.
func (l *Lab) writeGossipSecrets(m *machine) error {
	for flag, secret := range l.gossipSecrets() {
		if err := os.WriteFile(m.path(flag), []byte(secret.Reveal()+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// peerFlags returns the original command line of a legacy peer.
func (l *Lab) peerFlags(m *machine) ([]string, error) {
	return flagsFile(m.configFile(Peer), func() []string { return l.protokubeFlags(m) })
}
