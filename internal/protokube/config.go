package protokube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/node"
	"github.com/muster-dev/muster/internal/seeds"
)

// The two wire protocols, by kOps's names.
const (
	Mesh       = "mesh"
	Memberlist = "memberlist"
)

// Config configures a daemon in protokube's place; see parseArgs for its flags.
type Config struct {
	// Cloud is kOps's name of the cloud. It may be empty if Node, Cluster and seeds are given.
	Cloud string
	// Node names the peer, unique in the overlay. Required.
	Node string
	// Cluster is the cluster's name. Required.
	Cluster string

	// Primary is read from and written to. Required.
	Primary Gossip
	// Secondary is written to as well; its zero value is none.
	Secondary Gossip

	// Seeds are addresses of possible peers. The port is that of the primary overlay, and 0 its own; the secondary
	// uses its own port.
	Seeds []netip.AddrPort
	// SeedsFile lists more of them; it is read again on every round.
	SeedsFile string

	// Networks must contain the addresses in records. Empty means private networks, which excludes the nodes of
	// clusters with public addresses.
	Networks []netip.Prefix
	// Names are the full names in the hosts block, each one of the three that belong to the cluster. Empty means all
	// three.
	Names []string

	// Publish are servers of this node to publish in the overlays.
	Publish []Publication
	// CA is the file with the CA that those servers' certificates chain to.
	// Required with Publish.
	CA string

	// HostsFile receives the block. Default /etc/hosts.
	HostsFile string
	// StateDir holds the lock of the block, its journal, and the addresses accepted last. Default /var/lib/muster;
	// every program that writes the block must use the same.
	StateDir string
	// Status says where to serve status and metrics; the zero value means nowhere.
	Status node.Status
	// Verbosity is klog's: 6 or more logs at debug level.
	Verbosity int

	secretFlags []string                                    // flags that carried a secret
	cloudSeeds  func(context.Context) ([]netip.Addr, error) // queries the cloud; nil if seeds were given
}

// Gossip is one of the two overlays.
type Gossip struct {
	// Protocol is Mesh or Memberlist; empty is none.
	Protocol string
	// Listen is the address to listen on. kOps's defaults are any address, port 3999 for the primary and 4000 for the
	// secondary.
	Listen netip.AddrPort
	// Secret is the shared password of all peers of a mesh. kOps uses memberlist without one, so there it is ignored.
	Secret []byte
}

// Publication is a server of this node under one of the cluster's names.
type Publication struct {
	// Name is the full name.
	Name string
	// Addr is where the server is checked; its address, without the port, is published.
	Addr netip.AddrPort
	// Path is the path of the HTTPS check.
	Path string
}

// privateNetworks is the default of Config.Networks.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("fc00::/7"),
}

func (c Config) withDefaults() Config {
	if len(c.Networks) == 0 {
		c.Networks = privateNetworks
	}
	if len(c.Names) == 0 && c.Cluster != "" {
		// The name that every node needs comes first.
		c.Names = []string{"api.internal." + c.Cluster, "api." + c.Cluster, "kops-controller.internal." + c.Cluster}
	}
	return c
}

// validate returns all faults of a Config that has its defaults, joined.
func (c Config) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for flag, g := range map[string]Gossip{"--gossip-protocol": c.Primary, "--gossip-protocol-secondary": c.Secondary} {
		optional := flag == "--gossip-protocol-secondary" && g.Protocol == ""
		fault(!optional && g.Protocol != Mesh && g.Protocol != Memberlist, "%s %q: want %s or %s", flag, g.Protocol, Mesh, Memberlist)
	}
	fault(c.Secondary.Protocol != "" && c.Primary.Listen.Port() == c.Secondary.Listen.Port(),
		"--gossip-listen and --gossip-listen-secondary both name port %d: give each overlay its own", c.Primary.Listen.Port())
	for _, name := range c.Names {
		fault(!cluster.OwnsName(c.Cluster, name), "--names %s: not one of api, api.internal and kops-controller.internal of cluster %s", name, c.Cluster)
	}
	for _, p := range c.Publish {
		fault(!slices.Contains(c.Names, p.Name), "--publish %s: not among the names of the cluster that this node believes (%s)", p.Name, strings.Join(c.Names, ", "))
		fault(!c.allows(p.Addr.Addr()), "--publish %s=%s: lies outside the networks that are believed; nobody would use it (see --networks)", p.Name, p.Addr.Addr())
	}
	fault(len(c.Publish) > 0 && c.CA == "", "--publish needs --ca FILE: a server is published only while it answers with a certificate of that CA")
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func (c Config) allows(a netip.Addr) bool {
	return slices.ContainsFunc(c.Networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// checkFiles returns errors for unusable files, before anything runs.
func (c Config) checkFiles() error {
	var errs []error
	if info, err := os.Stat(c.HostsFile); err != nil {
		errs = append(errs, fmt.Errorf("--hosts-file: %w", err))
	} else if !info.Mode().IsRegular() {
		errs = append(errs, fmt.Errorf("--hosts-file %s: not a regular file", c.HostsFile))
	}
	if c.SeedsFile != "" {
		if _, err := seeds.File(c.SeedsFile); err != nil {
			errs = append(errs, fmt.Errorf("--seeds-file: %w", err))
		}
	}
	if err := os.MkdirAll(c.StateDir, 0o755); err != nil {
		errs = append(errs, fmt.Errorf("--state-dir: %w", err))
	}
	return errors.Join(errs...)
}

// seeds returns the current addresses of possible peers of the primary overlay.
func (c Config) seeds(ctx context.Context) ([]netip.AddrPort, error) {
	all := slices.Clone(c.Seeds)
	if c.cloudSeeds != nil {
		found, err := c.cloudSeeds(ctx)
		for _, a := range found {
			all = append(all, netip.AddrPortFrom(a, 0))
		}
		return all, err
	}
	if c.SeedsFile == "" {
		return all, nil
	}
	found, err := seeds.File(c.SeedsFile)
	if err != nil {
		err = fmt.Errorf("--seeds-file: %w", err)
	}
	return append(all, found...), err
}

// noOtherSeed reports whether this node is its own only seed, so that there is no peer whose state to wait for. It
// returns false where it would have to query the cloud.
func (c Config) noOtherSeed(ctx context.Context) bool {
	if c.cloudSeeds != nil {
		return false
	}
	all, err := c.seeds(ctx)
	return err == nil && !slices.ContainsFunc(all, func(s netip.AddrPort) bool {
		own := slices.ContainsFunc(c.Publish, func(p Publication) bool { return p.Addr.Addr() == s.Addr() })
		return !own && s.Addr() != c.Primary.Listen.Addr()
	})
}

func join[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, t := range all {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}
