package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// gossipPorts are those of dns-controller (3993, 3998) and protokube (3999, 4000).
var gossipPorts = []int{3993, 3998, 3999, 4000}

// overlay: how well the gossip overlay is kept.
func overlay(in Input, r *Report) {
	if in.gossips() {
		passwords(in, r)
	}
	ports(in, r)
	if in.Probes == nil {
		return
	}
	var foreign []string
	for name := range in.Probes.Overlay {
		// kOps publishes spec.masterPublicName, too, which may have any domain.
		public := in.Spec.API.PublicName != "" && strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(in.Spec.API.PublicName, "."))
		if !cluster.OwnsName(in.Spec.Name, name) && !public {
			foreign = append(foreign, name)
		}
	}
	if slices.Sort(foreign); len(foreign) > 0 {
		r.find("MU320", in.Spec.Name, "the overlay carries %s", strings.Join(foreign, ", "))
	}
	deadAddresses(in, r)
}

func passwords(in Input, r *Report) {
	g := in.Spec.Gossip
	switch {
	case g == nil, !g.Secret.Set():
		r.find("MU310", in.Spec.Name, "spec.gossipConfig.secret is not set: anyone who reaches port %d can set api.internal", in.gossipPort())
	case g.Protocol == cluster.ProtocolMemberlist:
		r.find("MU310", in.Spec.Name, "spec.gossipConfig.protocol is memberlist, which ignores the secret: anyone who reaches port %d can set api.internal", in.gossipPort())
	}
	switch {
	case g == nil, g.Secondary == nil:
		r.find("MU311", in.Spec.Name, "memberlist is the secondary overlay, as kOps defaults it")
	case g.Protocol == cluster.ProtocolMemberlist || g.Secondary.Protocol != cluster.ProtocolMesh && !g.Secondary.ProtocolEmpty:
		r.find("MU311", in.Spec.Name, "spec.gossipConfig uses memberlist")
	}
	var where []string
	for path, c := range map[string]*cluster.GossipConfig{"spec.gossipConfig": g, "spec.dnsControllerGossipConfig": in.Spec.DNSControllerGossip} {
		if c == nil {
			continue
		}
		if c.Secret.Set() {
			where = append(where, path+".secret")
		}
		if c.Secondary != nil && c.Secondary.Secret.Set() {
			where = append(where, path+".secondary.secret")
		}
	}
	if slices.Sort(where); len(where) > 0 {
		r.find("MU312", in.Spec.Name, "%s is set", strings.Join(where, ", "))
	}
}

// ports reports who can reach the overlay's ports on the control plane without
// needing to.
func ports(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	// Workers that gossip write to the overlay by design: closing dns-controller's
	// ports to them would keep nobody out.
	if open := openPorts(in, partWorkers, gossipPorts); len(open) > 0 && in.Topology() == cluster.Hybrid && !in.workersGossip() {
		r.find("MU313", in.Spec.Name, "workers reach ports %s of the control plane", join(open))
	}
	if open := openPorts(in, cloud.PartyWorld, gossipPorts); len(open) > 0 {
		f := r.find("MU314", in.Spec.Name, "everybody reaches ports %s of the control plane", join(open))
		if !in.gossips() {
			f.Severity = Medium
		}
	}
}

// workersGossip reports whether a worker that is or may be born gossips.
func (in Input) workersGossip() bool {
	for _, g := range in.Cloud.Groups {
		if g.Role != cluster.RoleNode {
			continue
		}
		for _, b := range append([]*cloud.BootConfig{g.Template.Boot}, bootsOf(g)...) {
			if bootconfig.Path(b) == cloud.BootGossip {
				return true
			}
		}
	}
	return false
}

func openPorts(in Input, from string, ports []int) (open []int) {
	for _, p := range ports {
		if in.Cloud.Network.Allows(from, partControl, "tcp", p) == cloud.Yes {
			open = append(open, p)
		}
	}
	return open
}

func join[T any](list []T) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ", ")
}

// deadAddresses: hosts blocks that lead to no machine of the cluster.
func deadAddresses(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	alive, known := in.balancerAddrs()
	if !known {
		return // an unknown address may be the load balancer's
	}
	if _, missing := in.instancesUnread(); missing {
		return // or an instance's
	}
	for _, g := range in.Cloud.Groups {
		for _, i := range g.Living() {
			alive = append(alive, i.Addr)
		}
	}
	for _, node := range sortedKeys(in.Probes.Hosts) {
		var dead []string
		for _, name := range sortedKeys(in.Probes.Hosts[node]) {
			for _, a := range in.Probes.Hosts[node][name] {
				if !a.IsLoopback() && !slices.Contains(alive, a) {
					dead = append(dead, a.String()+" for "+name)
				}
			}
		}
		if len(dead) > 0 {
			r.find("MU321", node, "the hosts block holds %s, which no machine has", strings.Join(dead, ", ")).GoneAfter = in.replaced(in.roleOf(node))
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// consumers: who depends on the old pieces.
func consumers(in Input, r *Report) {
	staticAddresses(in, r)
	if in.Topology() == cluster.None && in.Store != nil {
		for _, a := range in.Store.Addons {
			if a.Name == addonDNS && !a.Empty {
				r.find("MU323", a.Name, "the bootstrap channel still installs it")
			}
		}
	}
	if in.gossips() && in.Manifest.Cilium && !in.ciliumMountsHosts() {
		r.find("MU324", "Cilium", "spec.networking.cilium is set; its pods see the hosts file that was there when they started")
	}
	if in.Topology() == cluster.Public || in.Topology() == cluster.Private {
		return
	}
	if len(in.Manifest.Callers) > 0 {
		r.find("MU326", in.Spec.Name, "%s", strings.Join(in.Manifest.Callers, ", "))
	}
	workloads(in, r)
}

// ciliumMountsHosts reports whether the kOps that configured the cluster mounts the
// nodes' hosts file into Cilium's pods: 1.35.2 began to, and 1.36 does not.
func (in Input) ciliumMountsHosts() bool {
	var patch int
	_, err := fmt.Sscanf(strings.TrimPrefix(in.Version, "v"), "1.35.%d", &patch)
	return err == nil && patch >= 2
}

// workloads: what the pods of the cluster depend on.
func workloads(in Input, r *Report) {
	if in.Workloads == nil {
		return
	}
	for _, w := range in.Workloads.Pods {
		who := w.Namespace + "/" + w.Owner
		if w.HostNetwork && !w.SeesHosts && len(w.Names) > 0 && in.gossips() {
			r.find("MU325", who, "%d pods with their node's network ask for %s and have a copy of its hosts file", w.Pods, strings.Join(w.Names, ", "))
		}
		if w.Protokube {
			r.find("MU326", who, "%d pods name protokube in a command, an argument or their environment", w.Pods)
		}
	}
}

// staticAddresses: what nodes were born with must still be the load balancer's.
func staticAddresses(in Input, r *Report) {
	balancers, known := in.balancerAddrs()
	if !known || len(balancers) == 0 {
		return
	}
	if _, missing := in.instancesUnread(); missing {
		return
	}
	for _, i := range in.controlPlane() {
		balancers = append(balancers, i.Addr)
	}
	for _, g := range in.Cloud.Groups {
		var stale []string
		for _, b := range append([]*cloud.BootConfig{g.Template.Boot}, bootsOf(g)...) {
			if b == nil {
				continue
			}
			for _, ip := range b.APIServerIPs {
				if a, err := netip.ParseAddr(ip); err == nil && !slices.Contains(balancers, a) {
					stale = append(stale, ip)
				}
			}
		}
		slices.Sort(stale)
		if stale = slices.Compact(stale); len(stale) > 0 {
			f := r.find("MU322", g.Name, "nodes were or will be born with %s, which is nobody's", strings.Join(stale, ", "))
			r.causes(in, f, LinkEndpoints)
		}
	}
}

// supplyChain: where protokube runs, as the boot configurations say.
func supplyChain(in Input, r *Report) {
	release, _ := in.release()
	if !in.gossips() || release >= cluster.Release137 {
		return
	}
	if in.Cloud == nil {
		r.find("MU402", in.Spec.Name, "every node that gossips runs protokube")
		return
	}
	on, all := 0, 0
	for _, g := range in.Cloud.Groups {
		for _, i := range g.Living() {
			all++
			boot := i.Boot
			if boot == nil {
				boot = g.Template.Boot
			}
			if g.Role == cluster.RoleControlPlane || boot == nil || bootconfig.Path(boot) == cloud.BootGossip {
				on++
			}
		}
	}
	if on > 0 {
		r.find("MU402", in.Spec.Name, "protokube carries weaveworks/mesh on %d of %d nodes", on, all)
	}
}

// joinability: what the verdicts mean.
func joinability(in Input, r *Report) {
	for _, g := range r.Groups {
		switch g.Joinable {
		case DoesNotJoin:
			l := g.first(Broken)
			r.find("MU501", g.Name, "%s: %s", l.Name, l.Detail)
		case Unknown:
			if in.Cloud != nil { // else that is said once, for all groups
				l := g.open()
				r.find("MU502", g.Name, "%s: %s", l.Name, l.Detail)
			}
		}
		for _, b := range g.Reboots {
			who := fmt.Sprintf("%s (%d of version %s)", g.Name, len(b.Instances), orUnknown(b.Version))
			switch b.Joinable {
			case DoesNotJoin:
				l := b.first(Broken)
				r.find("MU503", who, "%s: %s", l.Name, l.Detail).GoneAfter = in.replaced(g.Role)
			case Unknown:
				l := b.open()
				r.find("MU504", who, "%s: %s", l.Name, l.Detail).GoneAfter = in.replaced(g.Role)
			}
		}
	}
	unhealthy(in, r)
}

// unhealthy: listeners that nobody serves.
func unhealthy(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	for _, lb := range in.Cloud.LoadBalancers {
		for _, l := range lb.Listeners {
			if l.Targets != nil && !slices.ContainsFunc(l.Targets, func(t cloud.Target) bool {
				return t.Health == cloud.TargetHealthy || t.Health == cloud.TargetUnknown || t.Health == cloud.TargetInitial || t.Health == ""
			}) {
				why := ""
				if len(l.Targets) > 0 && l.Targets[0].Reason != "" {
					why = ": " + l.Targets[0].Reason
				}
				f := r.find("MU505", lb.Name, "none of %d targets of port %d is healthy%s", len(l.Targets), l.Port, why)
				if r.causes(in, f, LinkAPI, LinkController); lb.Class == classic || l.Port != portAPI && l.Port != portConfig {
					f.Blocks = Nothing // nodes do not go that way
				}
			}
		}
	}
}
