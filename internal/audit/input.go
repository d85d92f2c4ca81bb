package audit

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// Input is everything that an audit judges. Only Spec is required; each other
// part that is nil was not looked at.
type Input struct {
	Spec *cluster.Cluster
	// Manifest is what the spec says besides discovery.
	Manifest Manifest
	// Version is the kOps version that configured the cluster, as the state
	// store's kops-version.txt has it; empty if unknown.
	Version string

	Cloud  *cloud.Observation
	Store  *Store
	Probes *Probes
	// Workloads are what the cluster's API shows.
	Workloads *Workloads

	// Strict takes what cannot be seen from here for unknown.
	Strict bool
	// Now decides which acceptances have run out.
	Now time.Time
}

// Store is what the state store says besides the spec.
type Store struct {
	// NodeConfigs are the node configurations that are served, by group. A group
	// that is missing has none, unless a gap says that it could not be read.
	NodeConfigs map[string]NodeConfig
	// Addons are those of the bootstrap channel; nil if it could not be read.
	Addons []Addon
	Gaps   []cloud.Gap
}

// NodeConfig is a group's nodeupconfig.yaml.
type NodeConfig struct {
	Hash string // base64 SHA-256, comparable with [cloud.BootConfig.ConfigHash] of nodes that ask kops-controller
}

// Addon is an entry of the bootstrap channel.
type Addon struct {
	Name string
	// Empty: its manifest has nothing in it, so that what it once installed is
	// pruned.
	Empty bool
}

// Probes is what was asked of the network, from wherever the audit runs.
type Probes struct {
	// Resolved holds the addresses of each name that was asked for; none means
	// that it does not resolve.
	Resolved map[string][]netip.Addr
	// TLSNames holds the names and addresses in the certificate that each
	// HOST:PORT served.
	TLSNames map[string][]string
	// Overlay holds the names that the gossip overlay carries, with addresses;
	// nil if nobody listened to it.
	Overlay map[string][]netip.Addr
	// Hosts holds the entries of nodes' hosts blocks, by instance; nil if no node
	// was looked at.
	Hosts map[string]map[string][]netip.Addr
	// Gaps are the questions without an answer.
	Gaps []cloud.Gap
}

// Workloads are the pods that ask for the cluster's names or call protokube.
type Workloads struct {
	Pods []Workload
	Gaps []cloud.Gap
}

// Workload is pods of one owner that are alike.
type Workload struct {
	Namespace string
	Owner     string // kind and name, such as DaemonSet agent
	Pods      int    // how many run
	// HostNetwork: they have their node's network, and with it its hosts file.
	HostNetwork bool
	// SeesHosts: every container mounts the hosts file itself and not a copy.
	SeesHosts bool
	Names     []string // of the cluster, that its configuration holds
	Protokube bool     // a command, argument or value names protokube
}

// release returns the release whose rules the cluster is judged by: the one that
// configured it last, or the nearest to it that is known. Without a version it is
// 1.36, the only bridge from gossip.
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

// Topology is how the cluster's nodes find the API now.
func (in Input) Topology() cluster.Topology {
	r, _ := in.release()
	return in.Spec.Topology(r)
}

// gossips reports whether any node of the cluster gossips by design.
func (in Input) gossips() bool {
	t := in.Topology()
	return t == cluster.Gossip || t == cluster.Hybrid
}

// gossipPort is where protokube's primary overlay listens.
func (in Input) gossipPort() int {
	if g := in.Spec.Gossip; g != nil && g.Listen.Port() != 0 {
		return int(g.Listen.Port())
	}
	return portGossip
}

// gap returns why a part of the observation is missing, if it is.
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

// absent returns why a part of the observation is missing, if it was looked for
// and is not there.
func (in Input) absent(what, subject string) (why string, absent bool) {
	for _, g := range in.Cloud.Gaps {
		if g.What == what && g.Subject == subject && g.Absent {
			return g.Why, true
		}
	}
	return "", false
}

// instancesUnread returns why instances may be missing from the observation, if
// any may. An address that none of those seen has may then be theirs.
func (in Input) instancesUnread() (why string, missing bool) {
	for _, g := range in.Cloud.Gaps {
		if g.What == "instances" || g.What == "instance groups" {
			return g.Why, true
		}
	}
	return "", false
}

// role returns the permissions of a name.
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

// controlPlane returns the live control-plane instances.
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

// balancerAddrs returns the addresses of all load balancers, and whether they
// are all known.
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
	classic     = "classic"
	portAPI     = 443
	portConfig  = 3988 // kops-controller
	portGossip  = 3999 // protokube, by default
	addonDNS    = "dns-controller.addons.k8s.io"
	partWorkers = cloud.PartyWorkers
	partControl = cloud.PartyControlPlane
	partLB      = cloud.PartyLoadBalancer
)
