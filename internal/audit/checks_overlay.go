package audit

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// gossipPorts are the default ports of dns-controller (3993, 3998) and protokube
// (3999, 4000).
var gossipPorts = []int{3993, 3998, 3999, 4000}

// overlay reports weaknesses of the gossip overlay, and what is wrong in it.
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
		// kOps also publishes spec.masterPublicName, which may be in any domain.
		public := in.Spec.API.PublicName != "" && strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(in.Spec.API.PublicName, "."))
		if !cluster.OwnsName(in.Spec.Name, name) && !public {
			foreign = append(foreign, name)
		}
	}
	if slices.Sort(foreign); len(foreign) > 0 {
		r.addFinding("MU320", in.Spec.Name, "the overlay carries %s", strings.Join(foreign, ", "))
	}
	deadAddresses(in, r)
}

// passwords reports how the overlay's protocols and secrets are configured.
func passwords(in Input, r *Report) {
	g := in.Spec.Gossip
	switch {
	case g == nil, !g.Secret.Set():
		r.addFinding("MU310", in.Spec.Name, "spec.gossipConfig.secret is not set: anyone who reaches port %d can set api.internal", in.gossipPort())
	case g.Protocol == cluster.ProtocolMemberlist:
		r.addFinding("MU310", in.Spec.Name, "spec.gossipConfig.protocol is memberlist, which ignores the secret: anyone who reaches port %d can set api.internal", in.gossipPort())
	}
	switch {
	case g == nil, g.Secondary == nil:
		r.addFinding("MU311", in.Spec.Name, "memberlist is the secondary overlay, as kOps defaults it")
	case g.Protocol == cluster.ProtocolMemberlist || g.Secondary.Protocol != cluster.ProtocolMesh && !g.Secondary.ProtocolEmpty:
		r.addFinding("MU311", in.Spec.Name, "spec.gossipConfig uses memberlist")
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
		r.addFinding("MU312", in.Spec.Name, "%s is set", strings.Join(where, ", "))
	}
}

// ports reports who can reach the overlay's ports on the control plane without
// needing to.
func ports(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	// Gossiping workers write to the overlay by design: closing dns-controller's ports
	// to them would not keep them out.
	if open := openPorts(in, partyWorkers, gossipPorts); len(open) > 0 && in.Topology() == cluster.Hybrid && !in.workersGossip() {
		r.addFinding("MU313", in.Spec.Name, "workers reach ports %s of the control plane", portList(open))
	}
	if open := openPorts(in, cloud.PartyWorld, gossipPorts); len(open) > 0 {
		f := r.addFinding("MU314", in.Spec.Name, "everybody reaches ports %s of the control plane", portList(open))
		if !in.gossips() {
			f.Severity = Medium
		}
	}
}

// exposure reports whether everybody reaches kops-controller.
func exposure(in Input, r *Report) {
	if in.Cloud != nil && in.Cloud.Network.Allows(cloud.PartyWorld, partyControl, "tcp", portConfig) == cloud.Yes {
		r.addFinding("MU315", in.Spec.Name, "everybody reaches port %d of the control plane", portConfig)
	}
}

// workersGossip reports whether any living worker gossips, or the next one would.
func (in Input) workersGossip() bool {
	for _, g := range in.Cloud.Groups {
		if g.Role != cluster.RoleNode {
			continue
		}
		for _, b := range bootsOf(g) {
			if bootconfig.Path(b) == cloud.BootGossip {
				return true
			}
		}
	}
	return false
}

// openPorts returns those of the control plane's TCP ports that a party can reach.
func openPorts(in Input, from string, ports []int) (open []int) {
	for _, p := range ports {
		if in.Cloud.Network.Allows(from, partyControl, "tcp", p) == cloud.Yes {
			open = append(open, p)
		}
	}
	return open
}

func portList(ports []int) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(p)
	}
	return strings.Join(texts, ", ")
}

// deadAddresses reports hosts blocks with addresses that no instance or load balancer
// has.
func deadAddresses(in Input, r *Report) {
	if in.Cloud == nil {
		return
	}
	alive, known := in.balancerAddrs()
	if !known {
		return // the address may be a load balancer's
	}
	if _, missing := in.instancesUnread(); missing {
		return // or that of an instance
	}
	for _, g := range in.Cloud.Groups {
		for _, i := range g.Living() {
			alive = append(alive, i.Addr)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(in.Probes.Hosts)) {
		var dead []string
		for _, name := range slices.Sorted(maps.Keys(in.Probes.Hosts[node])) {
			for _, a := range in.Probes.Hosts[node][name] {
				if !a.IsLoopback() && !slices.Contains(alive, a) {
					dead = append(dead, a.String()+" for "+name)
				}
			}
		}
		if len(dead) > 0 {
			r.addFinding("MU321", node, "the hosts block holds %s, which no machine has", strings.Join(dead, ", ")).GoneAfter = in.goneOnceReplaced(in.roleOf(node))
		}
	}
}

// dependents reports what depends on parts that a migration removes or changes.
func dependents(in Input, r *Report) {
	staticAddresses(in, r)
	if in.Topology() == cluster.None && in.Store != nil {
		for _, a := range in.Store.Addons {
			if a.Name == addonDNS && !a.Empty {
				r.addFinding("MU323", a.Name, "the bootstrap channel still installs it")
			}
		}
	}
	if in.gossips() && in.Manifest.Cilium && !in.ciliumMountsHosts() {
		r.addFinding("MU324", "Cilium", "spec.networking.cilium is set; its pods see the hosts file that was there when they started")
	}
	if in.Topology() == cluster.Public || in.Topology() == cluster.Private {
		return
	}
	if len(in.Manifest.ProtokubeRefs) > 0 {
		r.addFinding("MU326", in.Spec.Name, "%s", strings.Join(in.Manifest.ProtokubeRefs, ", "))
	}
	workloads(in, r)
}

// ciliumMountsHosts reports whether the cluster's kOps mounts /etc/hosts of the node
// into Cilium's pods. Only 1.35 from 1.35.2 on does; 1.36 does not.
func (in Input) ciliumMountsHosts() bool {
	var patch int
	_, err := fmt.Sscanf(strings.TrimPrefix(in.Version, "v"), "1.35.%d", &patch)
	return err == nil && patch >= 2
}

// workloads reports pods that depend on the hosts file or on protokube.
func workloads(in Input, r *Report) {
	if in.Workloads == nil {
		return
	}
	for _, w := range in.Workloads.Pods {
		subject := w.Namespace + "/" + w.Owner
		if w.HostNetwork && !w.MountsHosts && len(w.Names) > 0 && in.gossips() {
			r.addFinding("MU325", subject, "%d pods with their node's network ask for %s and have a copy of its hosts file", w.Pods, strings.Join(w.Names, ", "))
		}
		if w.Protokube {
			r.addFinding("MU326", subject, "%d pods name protokube in a command, an argument or their environment", w.Pods)
		}
	}
}

// staticAddresses reports addresses in boot configurations that neither a load
// balancer nor a control-plane node has.
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
		for _, b := range bootsOf(g) {
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
			f := r.addFinding("MU322", g.Name, "nodes were or will be born with %s, which is nobody's", strings.Join(stale, ", "))
			r.blocksIfBroken(in, f, LinkEndpoints)
		}
	}
}

// supplyChain reports how many nodes run protokube, according to their boot
// configurations. A node whose configuration is not known counts.
func supplyChain(in Input, r *Report) {
	release, _ := in.release()
	if !in.gossips() || release >= cluster.Release137 {
		return
	}
	if in.Cloud == nil {
		r.addFinding("MU402", in.Spec.Name, "every node that gossips runs protokube")
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
		r.addFinding("MU402", in.Spec.Name, "protokube carries weaveworks/mesh on %d of %d nodes", on, all)
	}
}

// joinability reports the verdicts that are not [Joins].
func joinability(in Input, r *Report) {
	for _, g := range r.Groups {
		switch g.Joinable {
		case DoesNotJoin:
			l := g.firstLink(Broken)
			r.addFinding("MU501", g.Name, "%s: %s", l.Name, l.Detail)
		case Unknown:
			if in.Cloud != nil { // else every group has the same reason, listed in Unknown
				l := g.undecidedLink()
				r.addFinding("MU502", g.Name, "%s: %s", l.Name, l.Detail)
			}
		}
		for _, b := range g.Reboots {
			subject := fmt.Sprintf("%s (%d of version %s)", g.Name, len(b.Instances), cmp.Or(b.Version, "unknown"))
			switch b.Joinable {
			case DoesNotJoin:
				l := b.firstLink(Broken)
				r.addFinding("MU503", subject, "%s: %s", l.Name, l.Detail).GoneAfter = in.goneOnceReplaced(g.Role)
			case Unknown:
				l := b.undecidedLink()
				r.addFinding("MU504", subject, "%s: %s", l.Name, l.Detail).GoneAfter = in.goneOnceReplaced(g.Role)
			}
		}
	}
	unhealthyListeners(in, r)
}

// unhealthyListeners reports listeners without a target that is or may be healthy.
func unhealthyListeners(in Input, r *Report) {
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
				f := r.addFinding("MU505", lb.Name, "none of %d targets of port %d is healthy%s", len(l.Targets), l.Port, why)
				if r.blocksIfBroken(in, f, LinkAPI, LinkController); lb.Class == classic || l.Port != portAPI && l.Port != portConfig {
					f.Blocks = Nothing // nodes do not use it
				}
			}
		}
	}
}
