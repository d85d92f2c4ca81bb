package clustercmd

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/node"
)

type initOptions struct {
	name         string
	controlPlane []string
	out          string
	apiPort      uint16
	apiCA        string
	apiName      string
	hosts        string
}

// NewInit returns muster init.
func NewInit(s console.Streams) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init --name CLUSTER --control-plane NODE=ADDRESS...",
		Short: "Make a cluster's CA, overlay keyring and control-plane configurations",
		Long: `Init prepares discovery for a cluster that kOps did not make: kubeadm, metal,
anything. It writes a directory:

  ca.crt ca.key        the cluster's Muster CA; keep ca.key safe
  nodes/NODE/          one for each control-plane node: node.yaml, the node's identity,
                       the CA, and the overlay's keyring. Copy it to the node as it
                       is, as /etc/muster; paths in it are relative

Then, on each control-plane node:   muster-peer --config /etc/muster/node.yaml
And for each worker, on any of them: muster token create --dir /etc/muster --node WORKER

` + console.ExitCodes,
		Example: "  muster init --name home.example --control-plane cp-1=10.0.0.1 --control-plane cp-2=10.0.0.2 --out muster",
		Args:    console.NoArgs,
		RunE:    func(_ *cobra.Command, _ []string) error { return runInit(s, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", os.Getenv("KOPS_CLUSTER_NAME"), "`cluster` name; the API is found as api.internal.CLUSTER")
	f.StringSliceVar(&o.controlPlane, "control-plane", nil, "`NODE=ADDRESS` of a control-plane node; once for each")
	f.StringVar(&o.out, "out", "muster", "`directory` to make")
	f.Uint16Var(&o.apiPort, "api-port", 6443, "port of the API servers")
	f.StringVar(&o.apiCA, "api-ca", "", "`file` on the nodes with the CA of the API servers' certificates, such as /etc/kubernetes/pki/ca.crt (default: the Muster CA)")
	f.StringVar(&o.apiName, "api-server-name", "", "`name` that the API servers' certificates carry; kubeadm's carry kubernetes (default: api.internal.CLUSTER)")
	f.StringVar(&o.hosts, "hosts", "/etc/hosts", "hosts `file` on the nodes")
	return cmd
}

// clusterFile is cluster.yaml, which init writes and token reads.
type clusterFile struct {
	Cluster      string            `yaml:"cluster"`
	APIPort      uint16            `yaml:"apiPort"`
	APICA        string            `yaml:"apiCA,omitempty"`
	APIName      string            `yaml:"apiServerName,omitempty"`
	Hosts        string            `yaml:"hosts"`
	ControlPlane []controlPlaneRow `yaml:"controlPlane"`
}

type controlPlaneRow struct {
	Node string     `yaml:"node"`
	Addr netip.Addr `yaml:"address"`
}

func (c clusterFile) addrs(port uint16) (addrs []netip.AddrPort) {
	for _, n := range c.ControlPlane {
		addrs = append(addrs, netip.AddrPortFrom(n.Addr, port))
	}
	return addrs
}

func (o initOptions) cluster() (clusterFile, error) {
	c := clusterFile{Cluster: o.name, APIPort: o.apiPort, APICA: o.apiCA, APIName: o.apiName, Hosts: o.hosts}
	if o.name == "" {
		return c, console.Usagef("no cluster name; give --name")
	}
	// A cluster's name is a name in DNS, as a node's is.
	if enrol.CheckNodeName(o.name) != nil {
		return c, console.Usagef("--name %q is not a DNS name in lower case", o.name)
	}
	if len(o.controlPlane) == 0 {
		return c, console.Usagef("no control-plane node; give --control-plane NODE=ADDRESS at least once")
	}
	for _, row := range o.controlPlane {
		name, text, ok := strings.Cut(row, "=")
		if !ok {
			return c, console.Usagef("--control-plane %q; want NODE=ADDRESS", row)
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
			return c, console.Usagef("--control-plane %q: %q is not an address that a node can have", row, text)
		}
		if err := enrol.CheckNodeName(name); err != nil {
			return c, console.Usagef("--control-plane %q: %w", row, err)
		}
		if slices.ContainsFunc(c.ControlPlane, func(r controlPlaneRow) bool { return r.Node == name || r.Addr == addr }) {
			return c, console.Usagef("--control-plane %q: node or address given twice", row)
		}
		c.ControlPlane = append(c.ControlPlane, controlPlaneRow{name, addr})
	}
	return c, nil
}

func runInit(s console.Streams, o initOptions) error {
	c, err := o.cluster()
	if err != nil {
		return err
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(out, "ca.key")); err == nil {
		return console.Usagef("%s holds a cluster's CA already; another --out, or remove it if no node uses it", out)
	}
	var nodes []enrol.ControlPlaneNode
	for _, n := range c.ControlPlane {
		nodes = append(nodes, enrol.ControlPlaneNode{Name: n.Node, Addr: n.Addr})
	}
	if _, err := enrol.InitControlPlane(out, c.Cluster, nodes, time.Now()); err != nil {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	keyring := []byte("# muster overlay keys; the first is used to send\n" + base64.StdEncoding.EncodeToString(key) + "\n")
	caKey, err := os.ReadFile(filepath.Join(out, "ca.key"))
	if err != nil {
		return err
	}
	for _, n := range c.ControlPlane {
		dir := filepath.Join(out, "nodes", n.Node)
		for name, data := range map[string][]byte{"overlay.keys": keyring, "ca.key": caKey} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				return err
			}
		}
		if err := writeYAML(filepath.Join(dir, "node.yaml"), "# Control-plane node "+n.Node+"; run muster-peer --config with this file.\n", c.controlPlaneConfig(n)); err != nil {
			return err
		}
		if err := writeYAML(filepath.Join(dir, "cluster.yaml"), "# Made by muster init; muster token reads it.\n", c); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.Out, "%s: CA, overlay keyring and %s in %s\n", c.Cluster, console.Count(len(nodes), "control-plane configuration", "control-plane configurations"), out)
	first := filepath.Join("nodes", c.ControlPlane[0].Node)
	fmt.Fprint(s.Out, console.Next("muster-peer --config "+filepath.Join(out, first, "node.yaml"), "muster token create --dir "+filepath.Join(o.out, first)+" --node WORKER"))
	return nil
}

func (c clusterFile) service() node.Service {
	return node.Service{Name: "api.internal", CA: c.APICA, ServerName: c.APIName}
}

// controlPlaneConfig is the configuration of muster-peer on a control-plane node.
func (c clusterFile) controlPlaneConfig(n controlPlaneRow) node.Config {
	api := c.service()
	api.Publish = node.AddrPort{AddrPort: netip.AddrPortFrom(n.Addr, c.APIPort)}
	var status node.Status
	if n.Addr.IsLoopback() {
		// Nodes that share a machine, as in a trial, must not share the port.
		status.Listen = node.AddrPort{AddrPort: netip.AddrPortFrom(n.Addr, node.StatusPort)}
	}
	return node.Config{
		Cluster:  c.Cluster,
		Node:     n.Node,
		Role:     identity.ControlPlane,
		StateDir: ".",
		Status:   status,
		Services: []node.Service{api},
		Hosts:    node.Hosts{Path: c.Hosts},
		Overlay: &node.Overlay{
			Listen:  node.AddrPort{AddrPort: netip.AddrPortFrom(n.Addr, node.OverlayPort)},
			Keyring: "overlay.keys",
			Seeds:   c.addrs(node.OverlayPort),
		},
		Discovery: &node.Discovery{
			Listen: node.AddrPort{AddrPort: netip.AddrPortFrom(n.Addr, node.DiscoveryPort)},
			CAKey:  "ca.key",
			Tokens: "tokens.json",
		},
	}
}

// workerConfig is the configuration of muster-agent on a worker.
func (c clusterFile) workerConfig(name, pin string, balance node.AddrPort) node.Config {
	api := c.service()
	api.Addresses = c.addrs(c.APIPort)
	api.Balance = balance
	return node.Config{
		Cluster:   c.Cluster,
		Node:      name,
		Role:      identity.Worker,
		StateDir:  "state",
		CAPin:     pin,
		Services:  []node.Service{api},
		Hosts:     node.Hosts{Path: c.Hosts},
		Discovery: &node.Discovery{Servers: c.addrs(node.DiscoveryPort), TokenFile: "token"},
	}
}

func writeYAML(path, header string, v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(header), data...), 0o644)
}
