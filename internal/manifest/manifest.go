// Package manifest generates the kOps manifest of a new cluster: DNS type None, on any cloud, under any name.
//
// It sets what kOps cannot derive and nothing more; images, machine types and add-ons are left to kOps unless configured.
// It never generates a gossip cluster. The package is pure.
package manifest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/cluster"
)

// maxSubnets is how many subnets the network is divided into.
const maxSubnets = 8

// Config describes the cluster.
type Config struct {
	// Name is any DNS name. With DNS type None, one in .k8s.local does not gossip either.
	Name  string
	Cloud cluster.Cloud
	// Zones are where the nodes go; at least one, at most eight, of one region.
	Zones []string
	// KubernetesVersion is required: kOps's default comes from a channel and changes over time.
	KubernetesVersion string
	// ControlPlaneCount is 1, 3, 5 or 7, since etcd needs a majority. Zero means 1. The nodes are spread over the zones,
	// one instance group each.
	ControlPlaneCount int
	// NodeCount is the number of workers, spread over the zones. Zero means 2.
	NodeCount int
	// ControlPlaneSize, NodeSize and Image are left to kOps when empty.
	ControlPlaneSize string
	NodeSize         string
	Image            string
	// Network is the cluster's network. The zero prefix means 172.20.0.0/16 on clouds where kOps creates subnets by CIDR;
	// elsewhere it is not used.
	Network netip.Prefix
	// Access are the networks that may reach the API and SSH. Empty means all, as in kOps.
	Access []netip.Prefix
	// LoadBalancer is the type of the API's load balancer. Empty means Public. Metal has none.
	LoadBalancer cluster.LoadBalancerType
	// Project is required on gce and unused elsewhere.
	Project string
	// StateStore is the URL of the state store.
	StateStore string
}

// Document is one document of the manifest.
type Document struct {
	Name string
	Data []byte
}

// Manifest is the documents of a new cluster.
type Manifest struct {
	Cluster Document
	Groups  []Document
}

// New returns the manifest, or all faults of the configuration joined.
func New(c Config) (*Manifest, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	controlPlane, nodes := c.controlPlane(), c.nodes()
	m := &Manifest{}
	data, err := encode(c.cluster(controlPlane))
	if err != nil {
		return nil, err
	}
	m.Cluster = Document{c.Name, data}
	for _, g := range append(controlPlane, nodes...) {
		data, err := encode(g)
		if err != nil {
			return nil, err
		}
		m.Groups = append(m.Groups, Document{g.Metadata.Name, data})
	}
	return m, nil
}

func (c Config) withDefaults() Config {
	if c.ControlPlaneCount == 0 {
		c.ControlPlaneCount = 1
	}
	if c.NodeCount == 0 {
		c.NodeCount = 2
	}
	if len(c.Access) == 0 {
		c.Access = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	if c.LoadBalancer == "" {
		c.LoadBalancer = cluster.LoadBalancerPublic
	}
	if !c.Network.IsValid() && c.hasSubnetCIDRs() {
		c.Network = netip.MustParsePrefix("172.20.0.0/16")
	}
	return c
}

// hasSubnetCIDRs reports whether kOps creates subnets by CIDR on the cloud.
func (c Config) hasSubnetCIDRs() bool {
	return slices.Contains([]cluster.Cloud{cluster.AWS, cluster.Azure, cluster.Hetzner, cluster.OpenStack}, c.Cloud)
}

func (c Config) validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Cloud == "" {
		add("no cloud; give one, such as aws")
	} else if !cluster.Supports(c.Cloud, cluster.None, cluster.Release136) {
		add("cloud %q is not one that kOps knows", c.Cloud)
	}
	if c.KubernetesVersion == "" {
		add("no version of kubernetes; give one, such as 1.34.2")
	} else if !kubernetesVersion.MatchString(c.KubernetesVersion) {
		add("version of kubernetes %q; want one such as 1.34.2", c.KubernetesVersion)
	}
	if c.ControlPlaneCount < 1 || c.ControlPlaneCount > 7 || c.ControlPlaneCount%2 == 0 {
		add("%d control-plane nodes; etcd wants 1, 3, 5 or 7", c.ControlPlaneCount)
	}
	if c.NodeCount < 1 || c.NodeCount > 5000 {
		add("%d nodes; want 1 to 5000", c.NodeCount)
	}
	if c.LoadBalancer != cluster.LoadBalancerPublic && c.LoadBalancer != cluster.LoadBalancerInternal {
		add("load balancer type %q; want Public or Internal", c.LoadBalancer)
	}
	if c.Cloud == cluster.GCE && c.Project == "" {
		add("no project; gce needs one")
	}
	errs = append(errs, c.validateZones()...)
	if n := c.Network; n.IsValid() && (!n.Addr().Is4() || n != n.Masked() || n.Bits() > 24 || n.Bits() < 8) {
		add("network %s; want one of IPv4 from /8 to /24, such as 172.20.0.0/16", n)
	}
	return errors.Join(errs...)
}

// kubernetesVersion matches a release, or the URL of a build, which kOps accepts as well.
var kubernetesVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$|^https?://`)

func (c Config) validateZones() (errs []error) {
	if len(c.Zones) == 0 || len(c.Zones) > maxSubnets {
		return []error{fmt.Errorf("%d zones; give one to %d, such as us-east-1a", len(c.Zones), maxSubnets)}
	}
	seen := map[string]bool{}
	for _, z := range c.Zones {
		switch {
		case z == "" || strings.ContainsFunc(z, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }):
			errs = append(errs, fmt.Errorf("zone %q; want lower-case letters, digits and hyphens", z))
		case seen[z]:
			errs = append(errs, fmt.Errorf("zone %q twice", z))
		case c.region(z) != c.region(c.Zones[0]):
			errs = append(errs, fmt.Errorf("zones %q and %q are in two regions; a cluster has one", c.Zones[0], z))
		}
		seen[z] = true
	}
	return errs
}

// region returns a zone's region on clouds whose zone names contain it, else nothing.
func (c Config) region(zone string) string {
	switch c.Cloud {
	case cluster.AWS:
		return strings.TrimRight(zone, "abcdefghijklmnopqrstuvwxyz")
	case cluster.GCE:
		if i := strings.LastIndexByte(zone, '-'); i > 0 {
			return zone[:i]
		}
		return zone
	default:
		return ""
	}
}

// subnet returns the i-th subnet of the network.
func (c Config) subnet(i int) string {
	const bits = 3 // maxSubnets parts
	length := c.Network.Bits() + bits
	base := c.Network.Addr().As4()
	binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])|uint32(i)<<(32-length))
	return netip.PrefixFrom(netip.AddrFrom4(base), length).String()
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}
