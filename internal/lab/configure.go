package lab

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/lab/proc"
	"github.com/muster-dev/muster/internal/node"
)

// nodeConfig returns the configuration of a node program on m. The caller holds m.mu.
func (l *Lab) nodeConfig(m *machine, p Program) node.Config {
	layout := l.Layout()
	cfg := node.Config{
		Cluster:  l.cfg.Cluster.Name,
		Node:     m.Name,
		Role:     m.Role,
		StateDir: m.stateDir(l),
		CA:       l.path(filepath.Join("pki", "ca.crt")),
		Services: layout.services(m.Node, p, m.discovery),
		Hosts:    node.Hosts{Path: m.hostsFile()},
		Status:   node.Status{Socket: m.socket(p)},
	}
	if p == Peer {
		cfg.Overlay = &node.Overlay{
			Listen:    node.AddrPort{AddrPort: netip.AddrPortFrom(m.Addr, overlayPort)},
			Keyring:   m.path("overlay.keys"),
			SeedsFile: l.seedsFile(m),
			Networks:  []netip.Prefix{layout.Network},
		}
	}
	switch {
	case m.Role == identity.ControlPlane && m.discovery:
		cfg.Discovery = &node.Discovery{
			Listen: node.AddrPort{AddrPort: netip.AddrPortFrom(m.Addr, node.DiscoveryPort)},
			CAKey:  l.path(filepath.Join("pki", "ca.key")),
			Tokens: l.path("tokens.json"),
		}
	case m.Role == identity.Worker && p == Agent:
		cfg.CA, cfg.CAPin = "", l.pin()
		cfg.Discovery = &node.Discovery{
			Servers:   slices.Concat(layout.balancer(node.DiscoveryPort), layout.addrs(node.DiscoveryPort)),
			TokenFile: m.path("token"),
		}
		cfg.Services[0].Balance = node.AddrPort{AddrPort: m.balancerAddr(l)}
	}
	if m.Role == identity.ControlPlane && m.discovery {
		// Other control-plane nodes may have left the overlay and still serve.
		cfg.Slice = &node.Slice{}
		if l.cfg.Kubernetes.Real() {
			cfg.Slice.Certificate, cfg.Slice.Key = l.path("pki/slice.crt"), l.path("pki/slice.key")
		}
	}
	return cfg
}

// hostsFile returns the path of the hosts file for the node's programs.
func (m *machine) hostsFile() string {
	if m.space != nil {
		return "/etc/hosts"
	}
	return m.path("hosts")
}

func (m *machine) balancerAddr(l *Lab) netip.AddrPort {
	if l.net != nil {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), balancerPort)
	}
	return netip.AddrPortFrom(m.Addr, balancerPort)
}

func (m *machine) socket(p Program) string {
	if p == Peer {
		return m.path("peer.sock")
	}
	return m.path("agent.sock")
}

// configFile returns the path of a program's configuration. It is written when the program first starts and then
// kept: a node that reboots has its original configuration, whatever has changed meanwhile. See removeConfigs.
func (m *machine) configFile(p Program) string {
	switch {
	case p == KubeAPIServer:
		return m.path("kube-apiserver.flags")
	case p == Peer && m.legacy:
		return m.path("protokube.flags")
	}
	return m.path(strings.Fields(string(p))[0] + ".yaml")
}

// removeConfigs makes the next start of the programs write a new configuration.
func (m *machine) removeConfigs(programs ...Program) error {
	for _, p := range programs {
		if err := os.Remove(m.configFile(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// spec writes a program's configuration, unless it exists, and returns how to start it.
func (m *machine) spec(l *Lab, p Program) (proc.Spec, error) {
	name := strings.Fields(string(p))[0]
	spec := proc.Spec{Name: m.Name + " " + string(p), Path: l.cfg.Programs.Muster, LogFile: m.path(name + ".log")}
	config := m.configFile(p)
	var content any
	var err error
	switch p {
	case Peer, Agent:
		if p == Peer && m.legacy {
			spec.Path = l.cfg.Programs.Peer
			spec.Args, err = l.peerFlags(m)
			return spec, err
		}
		spec.Path = l.cfg.Programs.Peer
		if p == Agent {
			spec.Path = l.cfg.Programs.Agent
		}
		spec.Args = []string{"--config", config}
		content = l.nodeConfig(m, p)
	case KubeAPIServer:
		spec.Path = l.cfg.Kubernetes.APIServer
		spec.Args, err = flagsFile(config, func() []string { return l.kubeAPIServerFlags(m) })
		return spec, err
	case APIServer:
		spec.Args = []string{ProcessVerb, "apiserver", config}
		content = l.apiServerConfig(m)
	default:
		spec.Args = []string{ProcessVerb, "kubelet", config}
		content = l.kubeletConfig(m)
	}
	if _, err := os.Stat(config); !errors.Is(err, fs.ErrNotExist) {
		return spec, err
	}
	if spec.Path == l.cfg.Programs.Muster {
		return spec, writeJSON(config, content)
	}
	data, err := yaml.Marshal(content)
	if err != nil {
		return spec, err
	}
	return spec, replaceFile(config, data, 0o644)
}
