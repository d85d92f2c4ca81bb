package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Input is everything that an audit evaluates. Only Spec is required; any other
// part is nil if it was not observed.
type Input struct {
	Spec *cluster.Cluster
	// Manifest holds the fields of the spec that are not about discovery.
	Manifest Manifest
	// Version is the kOps version that last updated the cluster, from
	// kops-version.txt in the state store; empty if unknown.
	Version string

	Cloud  *cloud.Observation
	Store  *Store
	Probes *Probes
	// Workloads are read from the cluster's API.
	Workloads *Workloads
	// Overlay holds the addresses that the gossip overlay carries, by name; nil if it
	// was not read.
	Overlay map[string][]netip.Addr
	// Hosts holds the entries of kOps's block in the nodes' /etc/hosts, by instance
	// ID and name; nil if no node was read.
	Hosts map[string]map[string][]netip.Addr

	// Strict makes a verdict unknown if any of its links is [Unseen].
	Strict bool
	// Now is the time at which acceptances must still be valid.
	Now time.Time
}

// Store is what the state store holds besides the spec.
type Store struct {
	// NodeConfigs are the node configurations, by group. A missing group has none,
	// unless there is a gap for it.
	NodeConfigs map[string]NodeConfig
	// Addons are the add-ons of the bootstrap channel; nil if it could not be read.
	Addons []Addon
	Gaps   []cloud.Gap
}

// NodeConfig is a group's nodeupconfig.yaml.
type NodeConfig struct {
	Hash string // base64 SHA-256, comparable with the ConfigHash of a [cloud.BootConfig] with servers
	// Gossip is usesLegacyGossip; false also if that could not be read.
	Gossip bool
}

// Addon is an entry of the bootstrap channel.
type Addon struct {
	Name string
	// Empty is true if the add-on's manifest is empty: kOps then prunes what it
	// once installed.
	Empty bool
}

// Probes are the results of network probes from where the audit runs.
type Probes struct {
	// Resolved holds the addresses of each name that was looked up; empty if it
	// does not exist.
	Resolved map[string][]netip.Addr
	// TLSNames holds the names and addresses in the certificate that each
	// HOST:PORT served.
	TLSNames map[string][]string
	// Gaps are the probes without a result.
	Gaps []cloud.Gap
}

// Workloads are the pods that use the cluster's names or protokube.
type Workloads struct {
	Pods []Workload
	Gaps []cloud.Gap
}

// Workload stands for the pods of one owner with the same properties.
type Workload struct {
	Namespace string
	Owner     string // kind and name, such as DaemonSet agent
	Pods      int    // running ones
	// HostNetwork is spec.hostNetwork: containers start with a copy of the node's
	// /etc/hosts.
	HostNetwork bool
	// MountsHosts is true if every container mounts the node's /etc/hosts, and so
	// sees its changes.
	MountsHosts bool
	Names       []string // the cluster's names in the configuration
	Protokube   bool     // a command, argument or environment variable contains "protokube"
}

// release returns the release whose rules apply: the one that last updated the
// cluster. If that is not known it is the nearest known one, and without a version
// 1.36, the only release that can migrate a cluster off gossip.
func (in Input) release() (r cluster.Release, known bool) {
	if r, err := cluster.ParseRelease(in.Version); err == nil {
		return r, true
	}
	var minor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(in.Version, "v"), "1.%d", &minor); err != nil {
		return cluster.Release136, false
	}
	all := cluster.Releases()
	return min(max(cluster.Release(minor), all[0]), all[len(all)-1]), false
}

// Topology returns the cluster's topology under the release that last updated it. A
// None in the spec does not count before an update has applied it.
func (in Input) Topology() cluster.Topology {
	r, _ := in.release()
	if in.noneIsAhead() {
		before := *in.Spec
		before.DNSType = cluster.DNSPrivate // that of gossip clusters, whatever the type
		return before.Topology(r)
	}
	return in.Spec.Topology(r)
}

// topologyBefore136 returns the topology if a kOps before 1.36 last updated the cluster,
// where that is another and the version is not known; otherwise "".
func (in Input) topologyBefore136() cluster.Topology {
	if t := in.Spec.Topology(cluster.Release135); in.Version == "" && !in.noneIsAhead() && t != in.Topology() {
		return t
	}
	return ""
}

// noneIsAhead reports whether the spec says None, and the node configuration of the
// control plane still gossips: kOps writes it anew in the first step of the move.
func (in Input) noneIsAhead() bool {
	return in.Store != nil && in.Spec.UsesNoneDNS() && cluster.IsGossipName(in.Spec.Name) &&
		slices.ContainsFunc(in.Spec.GroupsOf(cluster.RoleControlPlane), func(g cluster.Group) bool { return in.Store.NodeConfigs[g.Name].Gossip })
}

// gossips reports whether the topology has gossiping nodes.
func (in Input) gossips() bool {
	t := in.Topology()
	return t == cluster.Gossip || t == cluster.Hybrid
}

// gossipPort returns the port of protokube's primary overlay.
func (in Input) gossipPort() int {
	if g := in.Spec.Gossip; g != nil && g.Listen.Port() != 0 {
		return int(g.Listen.Port())
	}
	return portGossip
}

// gap returns the reason if a part of the observation is missing.
func (in Input) gap(what, subject string) (why string, missing bool) {
	if in.Cloud == nil {
		return "the cloud was not looked at", true
	}
	for _, g := range in.Cloud.Gaps {
		if g.What == what && (g.Subject == subject || g.Subject == "") {
			return g.Why, true
		}
	}
	return "", false
}

// absent returns the reason if the cloud answered that a part of the observation
// does not exist.
func (in Input) absent(what, subject string) (why string, absent bool) {
	for _, g := range in.Cloud.Gaps {
		if g.What == what && g.Subject == subject && g.Absent {
			return g.Why, true
		}
	}
	return "", false
}

// instancesUnread returns the reason if the observation may lack instances. An
// address that no observed instance has may then still be in use.
func (in Input) instancesUnread() (why string, missing bool) {
	for _, g := range in.Cloud.Gaps {
		if g.What == "instances" || g.What == "instance groups" {
			return g.Why, true
		}
	}
	return "", false
}

// role returns the role with a name.
func (in Input) role(name string) (cloud.Role, bool) {
	if in.Cloud == nil {
		return cloud.Role{}, false
	}
	for _, r := range in.Cloud.Roles {
		if r.Name == name {
			return r, true
		}
	}
	return cloud.Role{}, false
}

// controlPlane returns the control-plane instances that run or start.
func (in Input) controlPlane() []cloud.Instance {
	if in.Cloud == nil {
		return nil
	}
	var all []cloud.Instance
	for _, g := range in.Cloud.Groups {
		if g.Role == cluster.RoleControlPlane {
			all = append(all, g.Living()...)
		}
	}
	return all
}

// balancerAddrs returns the addresses of all load balancers. known is false if some
// may be missing.
func (in Input) balancerAddrs() (addrs []netip.Addr, known bool) {
	if in.Cloud == nil {
		return nil, false
	}
	_, missing := in.gap("load balancers", "")
	known = !missing
	for _, lb := range in.Cloud.LoadBalancers {
		addrs = append(addrs, lb.Addresses...)
		if lb.Class != classic && len(lb.Addresses) == 0 {
			known = false
		}
	}
	return addrs, known
}

const (
	classic      = "classic"
	portAPI      = 443
	portConfig   = 3988 // kops-controller
	portGossip   = 3999 // protokube, by default
	addonDNS     = "dns-controller.addons.k8s.io"
	partyWorkers = cloud.PartyWorkers
	partyControl = cloud.PartyControlPlane
	partyLB      = cloud.PartyLoadBalancer
)
