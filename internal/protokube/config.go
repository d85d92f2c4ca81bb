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

// The two wire protocols, by the names that kOps gives them.
const (
	Mesh       = "mesh"
	Memberlist = "memberlist"
)

// Config is one daemon in protokube's place. Its flags make one; see parse.
type Config struct {
	// Cloud is kOps's name of the cloud. It may be empty if nothing has to be
	// asked of one: Node, Cluster and seeds are given.
	Cloud string
	// Node names the peer, unique in the overlay. Required.
	Node string
	// Cluster is the cluster's name. Required.
	Cluster string

	// Primary is read from and written to. Required.
	Primary Gossip
	// Secondary is written to as well; its zero value is none.
	Secondary Gossip

	// Seeds are where peers may be found. A port counts for the primary overlay
	// only: the secondary uses its own. Port 0 is the primary's own.
	Seeds []netip.AddrPort
	// SeedsFile holds further ones, read anew on every round.
	SeedsFile string

	// Networks bound the addresses that are believed. Empty means private
	// networks, which leaves out the nodes of clusters with public addresses.
	Networks []netip.Prefix
	// Names are the full names that reach the hosts block, each one of the three
	// that belong to the cluster. Empty means all three.
	Names []string

	// Publish are servers of this node that the overlays are told of.
	Publish []Publication
	// CA is the file with the CA that those servers' certificates chain to.
	// Required with Publish.
	CA string

	// HostsFile receives the block. Default /etc/hosts.
	HostsFile string
	// StateDir keeps the lock of the block, its journal, and what was believed
	// last. Default /var/lib/muster; every program that writes the block must be
	// given the same.
	StateDir string
	// Status says where status and metrics are served; its zero value is nowhere.
	Status node.Status
	// Verbosity is klog's: 6 and more log details.
	Verbosity int

	exposed    []string                                    // flags that carried a secret
	cloudSeeds func(context.Context) ([]netip.Addr, error) // asks the cloud; nil if seeds were given
}

// Gossip is one of the two overlays.
type Gossip struct {
	// Protocol is Mesh or Memberlist; empty is none.
	Protocol string
	// Listen is where peers connect. kOps's own defaults are any address, port
	// 3999 for the primary and 4000 for the secondary.
	Listen netip.AddrPort
	// Secret is the password that all peers of a mesh share. memberlist has none
	// on kOps's wire, and ignores it.
	Secret []byte
}

// Publication is a server of this node under one of the cluster's names.
type Publication struct {
	// Name is the full name.
	Name string
	// Addr is what is published, without the port, and where it is checked.
	Addr netip.AddrPort
	// Path is what is asked for over HTTPS.
	Path string
}

// privateNetworks are believed where nobody says which networks the cluster has.
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
		// What a node cannot do without comes first.
		c.Names = []string{"api.internal." + c.Cluster, "api." + c.Cluster, "kops-controller.internal." + c.Cluster}
	}
	return c
}

// validate reports everything that is wrong with a config that has its defaults.
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
		fault(!c.believes(p.Addr.Addr()), "--publish %s=%s: lies outside the networks that are believed; nobody would use it (see --networks)", p.Name, p.Addr.Addr())
	}
	fault(len(c.Publish) > 0 && c.CA == "", "--publish needs --ca FILE: a server is published only while it answers with a certificate of that CA")
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func (c Config) believes(a netip.Addr) bool {
	return slices.ContainsFunc(c.Networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// checkFiles reports files that cannot be used, before anything runs.
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

// seeds returns where peers of the primary overlay may be found now.
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

// alone reports whether no seed is known but this node itself, so that there is
// nobody whose state could be waited for. Where the cloud would have to be asked
// for that, it is not taken to be.
func (c Config) alone(ctx context.Context) bool {
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
