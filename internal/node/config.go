package node

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/enrol"
	"github.com/muster-dev/muster/internal/identity"
)

// The ports Muster listens on unless told otherwise. None is one of kOps's, so
// both can run on a node at once.
const (
	OverlayPort   = 7946 // gossip among peers
	DiscoveryPort = 7947 // worker-facing API on control-plane nodes
	StatusPort    = 7948 // metrics, health and status, on loopback
)

// Config is one node's configuration, normally /etc/muster/node.yaml. Paths in
// it may be relative to the file.
type Config struct {
	// Cluster is the cluster's name, such as "atlas.k8s.local". Required.
	Cluster string `yaml:"cluster"`
	// Node is this node's name, unique in the cluster. Default, for files that
	// are the same on many nodes: what the machine calls itself (uname -n), in
	// lower case. Both names are DNS names in lower case, as Kubernetes has them.
	Node string `yaml:"node"`
	// Role is control-plane or worker. Required.
	Role identity.Role `yaml:"role"`
	// StateDir keeps what must survive a restart: the node's identity
	// (node.key, node.crt, ca.crt), the last good endpoints, the hosts journal
	// and its lock. A control-plane node is given its identity there; a worker
	// enrols. Default /var/lib/muster.
	StateDir string `yaml:"stateDir,omitempty"`
	// CA is the file with the cluster's Muster CA certificate. Default: ca.crt
	// in StateDir, where there is one.
	CA string `yaml:"ca,omitempty"`
	// CAPin is the hash of the CA's public key, sha256:HEX. It lets a worker
	// boot without the CA's file: it learns the certificate when it enrols.
	CAPin string `yaml:"caPin,omitempty"`

	// Services are the names that this node resolves, at least one.
	Services []Service `yaml:"services"`

	Hosts     Hosts      `yaml:"hosts,omitempty"`
	Overlay   *Overlay   `yaml:"overlay,omitempty"`
	Discovery *Discovery `yaml:"discovery,omitempty"`
	Slice     *Slice     `yaml:"endpointSlice,omitempty"`
	Status    Status     `yaml:"status,omitempty"`
	Log       Log        `yaml:"log,omitempty"`
}

// AddrPort is a netip.AddrPort that YAML leaves out when it is not set.
type AddrPort struct{ netip.AddrPort }

// IsZero reports whether a is not set.
func (a AddrPort) IsZero() bool { return a == AddrPort{} }

// UnmarshalYAML leaves the field to decode, which knows it.
func (a *AddrPort) UnmarshalYAML(n *yaml.Node) (err error) {
	if a.AddrPort, err = netip.ParseAddrPort(n.Value); err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
	}
	return nil
}

// AddrPorts is a list of addresses with ports.
type AddrPorts []netip.AddrPort

// UnmarshalYAML reads the list element by element, for the sake of its errors.
func (l *AddrPorts) UnmarshalYAML(n *yaml.Node) error {
	var items []AddrPort
	if err := n.Decode(&items); err != nil {
		return err
	}
	*l = nil
	for _, a := range items {
		*l = append(*l, a.AddrPort)
	}
	return nil
}

// Prefixes is a list of networks.
type Prefixes []netip.Prefix

// UnmarshalYAML gives the list's errors the form of the decoder's.
func (l *Prefixes) UnmarshalYAML(n *yaml.Node) error {
	var items []netip.Prefix
	if err := n.Decode(&items); err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
	}
	*l = items
	return nil
}

// Service is one of the cluster's names and how its servers are known.
type Service struct {
	// Name is the part before the cluster's name: "api.internal" or
	// "kops-controller.internal". Required.
	Name string `yaml:"name"`
	// Aliases are further names for the same servers, such as "api".
	Aliases []string `yaml:"aliases,omitempty"`
	// Check is the path whose answer over HTTPS says that a server is ready.
	// Default /readyz.
	Check string `yaml:"check,omitempty"`
	// ServerName is what a server's certificate must carry. Default: the
	// service's full name.
	ServerName string `yaml:"serverName,omitempty"`
	// CA is the file with the CA that the servers' certificates chain to.
	// Default: the node's CA.
	CA string `yaml:"ca,omitempty"`
	// Certificate and Key are files with which the node asks servers whether they are
	// ready, such as the kubelet's, read at each connection. Without them a server that
	// lets nobody ask anonymously says 401, ready or not, and counts as up. Default:
	// ask anonymously.
	Certificate string `yaml:"certificate,omitempty"`
	Key         string `yaml:"key,omitempty"`
	// LoadBalancer are addresses of a load balancer before the servers.
	LoadBalancer AddrPorts `yaml:"loadBalancer,omitempty"`
	// Addresses are the servers known when the node was configured.
	Addresses AddrPorts `yaml:"addresses,omitempty"`
	// SRV is the name of DNS records that list servers, such as
	// _https._tcp.api.example.com, for when all that is known is dead. It is
	// asked only while no server is up, adds only servers that prove themselves
	// by certificate, and takes nothing away.
	SRV string `yaml:"srv,omitempty"`
	// Prefer are networks whose servers this node uses before others, such as
	// those of its own zone. It is an order among servers that are healthy and
	// leaves nobody out; nodes that all prefer one server load it alone.
	Prefer Prefixes `yaml:"prefer,omitempty"`
	// AdoptPort, if set, makes the node take over the addresses that the block
	// of the hosts file has for the service when the daemon first finds any
	// there, with this port: those with which kOps brought the node up. They are
	// kept across restarts, and until they are found the block is left alone.
	// Workers only.
	AdoptPort uint16 `yaml:"adoptPort,omitempty"`
	// Publish is this node's own server. Control plane only. It is published
	// while Check answers there, and withdrawn as soon as it does not.
	Publish AddrPort `yaml:"publish,omitempty"`
	// Balance is where the local balancer listens; unset means none. It must
	// be a loopback address.
	Balance AddrPort `yaml:"balance,omitempty"`
}

// Hosts says where the hosts block goes.
type Hosts struct {
	// Path is the hosts file. Default /etc/hosts.
	Path string `yaml:"path,omitempty"`
	// Disabled leaves the file alone.
	Disabled bool `yaml:"disabled,omitempty"`
}

// Overlay configures the gossip overlay. Only muster-peer has one.
type Overlay struct {
	// Listen is the address for TCP and UDP. Required; port default 7946.
	Listen AddrPort `yaml:"listen"`
	// Keyring is the file with the overlay's keys, one base64 line each, the
	// first for sending. It is re-read when it changes. Required.
	Keyring string `yaml:"keyring"`
	// Seeds are peers to join through.
	Seeds AddrPorts `yaml:"seeds,omitempty"`
	// SeedsFile holds further seeds, one ADDRESS:PORT a line, re-read on
	// every round.
	SeedsFile string `yaml:"seedsFile,omitempty"`
	// Networks bound the addresses that records may carry. Empty means any.
	Networks Prefixes `yaml:"networks,omitempty"`
}

// Discovery configures the worker-facing API: who serves it, who reads it.
type Discovery struct {
	// Listen makes a control-plane node serve enrolment and endpoints here.
	Listen AddrPort `yaml:"listen,omitempty"`
	// CAKey is the CA's key file. A server without one does not enrol.
	CAKey string `yaml:"caKey,omitempty"`
	// Tokens is the file of enrolment tokens.
	Tokens string `yaml:"tokens,omitempty"`
	// Servers are where a worker finds the API when it boots: a load
	// balancer, control-plane nodes, or both.
	Servers AddrPorts `yaml:"servers,omitempty"`
	// TokenFile is where a worker's one-time token lies.
	TokenFile string `yaml:"tokenFile,omitempty"`
}

// Slice makes the node follow the kubernetes EndpointSlice, which is how a
// control-plane node knows its fellows without an overlay.
type Slice struct {
	// Service is the name of the service whose servers are API servers and
	// whose endpoints the slice lists. Default api.internal.
	Service string `yaml:"service,omitempty"`
	// Certificate and Key are files that authenticate to the API server, read at each
	// connection, so that they may be renewed, or come after the daemon. Default: the
	// node's identity.
	Certificate string `yaml:"certificate,omitempty"`
	Key         string `yaml:"key,omitempty"`
	// TokenFile holds a bearer token instead.
	TokenFile string `yaml:"tokenFile,omitempty"`
}

// Status says where metrics, health and status are served.
type Status struct {
	// Listen is a TCP address. Default 127.0.0.1:7948, unless Socket is set.
	Listen AddrPort `yaml:"listen,omitempty"`
	// Socket is the path of a Unix socket, which only its owner may open.
	Socket string `yaml:"socket,omitempty"`
}

// Log configures the daemon's own log.
type Log struct {
	// Format is text (default) or json.
	Format string `yaml:"format,omitempty"`
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level,omitempty"`
}

// Identity returns who the node is.
func (c Config) Identity() identity.Identity {
	return identity.Identity{Cluster: c.Cluster, Role: c.Role, Node: c.Node}
}

// FullName returns a service's or alias's name under the cluster's.
func (c Config) FullName(name string) string { return name + "." + c.Cluster }

// names of the cluster that may reach a hosts file, without the cluster's own.
// kOps publishes these three and no rule of ours lets a fourth in.
var clusterNames = []string{"api", "api.internal", "kops-controller.internal"}

// pin returns the parsed CAPin; zero if there is none.
func (c Config) pin() (enrol.Pin, error) {
	if c.CAPin == "" {
		return enrol.Pin{}, nil
	}
	return enrol.ParsePin(c.CAPin)
}

// caFile returns the file that holds the CA's certificate, or "" where the node
// has yet to learn it.
func (c Config) caFile() string {
	if c.CA != "" {
		return c.CA
	}
	if path := c.learntCA(); fileExists(path) {
		return path
	}
	return ""
}

// learntCA is the file that enrolment writes the CA's certificate to.
func (c Config) learntCA() string { return filepath.Join(c.StateDir, "ca.crt") }

// enrols reports whether the node gets its identity, and the CA with it, from the
// control plane.
func (c Config) enrols() bool {
	return c.Role == identity.Worker && c.Discovery != nil && len(c.Discovery.Servers) > 0
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
