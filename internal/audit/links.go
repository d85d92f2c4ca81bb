package audit

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// chain evaluates the links of one boot.
type chain struct {
	in    Input
	group cloud.Group
	boot  cloud.BootConfig
	path  cloud.BootPath
	links []Link

	// live is true for the reboot of an existing node.
	live bool
	// direct is true if the node reaches the control plane without a load balancer.
	direct bool
}

func (c *chain) add(name string, state State, format string, args ...any) {
	c.links = append(c.links, Link{name, state, fmt.Sprintf(format, args...)})
}

// controlPlane reports whether the node runs an API server.
func (c *chain) controlPlane() bool {
	return c.group.Role == cluster.RoleControlPlane || c.group.Role == cluster.RoleAPIServer
}

// usesController reports whether the node gets its configuration from
// kops-controller.
func (c *chain) usesController() bool {
	return c.path == cloud.BootAddresses || c.path == cloud.BootName
}

// bootConfiguration evaluates whether the boot configuration is the group's.
func (c *chain) bootConfiguration() {
	b := c.boot
	switch {
	case c.path == cloud.BootUnknown:
		c.add(LinkBoot, Broken, "names neither a state store nor a configuration server")
	case b.Cluster != c.in.Spec.Name:
		c.add(LinkBoot, Broken, "is for cluster %q", b.Cluster)
	case b.Group != "" && b.Group != c.group.Name:
		c.add(LinkBoot, Broken, "is for group %q", b.Group)
	case b.Role != "" && b.Role != c.group.Role:
		c.add(LinkBoot, Broken, "is for role %s, and the group has %s", b.Role, c.group.Role)
	default:
		c.add(LinkBoot, Holds, "for this cluster and group")
	}
}

// names evaluates who publishes api.internal, which a gossiping worker needs.
func (c *chain) names() {
	if c.path != cloud.BootGossip || c.controlPlane() {
		return
	}
	if why, missing := c.in.instancesUnread(); missing && c.in.Topology() == cluster.None {
		c.add(LinkNames, Undecided, "whether any of the control plane still gossips is not known: %s", why)
		return
	}
	of := func(g cloud.Generation) bool {
		return slices.ContainsFunc(c.in.controlPlane(), func(i cloud.Instance) bool { return i.Generation == g })
	}
	switch {
	case c.in.Topology() != cluster.None, of(cloud.GenerationOld):
	case of(cloud.GenerationUnknown):
		c.add(LinkNames, Undecided, "whether any of the control plane still gossips is not known: nothing says which of its nodes are new")
		return
	default:
		c.add(LinkNames, Broken, "the control plane no longer gossips, so there is nobody to learn api.internal from")
		return
	}
	if c.in.Store == nil || c.in.Store.Addons == nil {
		c.add(LinkNames, Undecided, "whether dns-controller still publishes api.internal was not read from the state store")
		return
	}
	for _, a := range c.in.Store.Addons {
		if a.Name == addonDNS && !a.Empty {
			c.add(LinkNames, Holds, "dns-controller publishes api.internal and kops-controller.internal")
			return
		}
	}
	c.add(LinkNames, Broken, "dns-controller is no longer installed: nobody publishes api.internal")
}

// network evaluates the network rules on the node's way to the control plane.
func (c *chain) network() {
	if c.controlPlane() {
		return
	}
	type hop struct {
		from, to string
		port     int
	}
	var hops []hop
	switch {
	case c.path == cloud.BootGossip:
		hops = []hop{{partyWorkers, partyControl, c.in.gossipPort()}, {partyWorkers, partyControl, portAPI}, {partyWorkers, partyControl, portConfig}}
	case c.direct:
		hops = []hop{{partyWorkers, partyControl, portAPI}, {partyWorkers, partyControl, portConfig}}
	default:
		hops = []hop{{partyWorkers, partyLB, portAPI}, {partyWorkers, partyLB, portConfig}, {partyLB, partyControl, portAPI}, {partyLB, partyControl, portConfig}}
	}
	if c.in.Cloud == nil {
		c.add(LinkNetwork, Undecided, "the cloud was not looked at")
		return
	}
	var open, ports []string
	for _, h := range hops {
		text := fmt.Sprintf("%s to %s port %d", h.from, h.to, h.port)
		allowed := c.in.Cloud.Network.Allows(h.from, h.to, "tcp", h.port)
		if c.path == cloud.BootGossip && h.port == c.in.gossipPort() && allowed == cloud.No {
			allowed = c.in.meshDialsWorkers()
		}
		switch allowed {
		case cloud.No:
			c.add(LinkNetwork, Broken, "no rule lets %s through", text)
			return
		case cloud.Unknown:
			open = append(open, text)
		}
		if p := strconv.Itoa(h.port); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	if len(open) > 0 {
		c.add(LinkNetwork, Undecided, "not all rules were read: %s", strings.Join(open, ", "))
		return
	}
	c.add(LinkNetwork, Holds, "ports %s", strings.Join(ports, ", "))
}

// meshDialsWorkers reports whether the control plane's protokube connects to that of
// a worker which cannot connect to it: one mesh connection serves both ways. kOps's
// firewall rules on GCE rely on that. Up to kOps 1.35 a control-plane node uses all
// instances of the cluster as seeds, since 1.36 only control-plane nodes.
func (in Input) meshDialsWorkers() cloud.Answer {
	release, known := in.release()
	if g := in.Spec.Gossip; known && release >= cluster.Release136 || g != nil && g.Protocol == cluster.ProtocolMemberlist {
		return cloud.No
	}
	answer := in.Cloud.Network.Allows(partyControl, partyWorkers, "tcp", in.gossipPort())
	if answer == cloud.Yes && !known {
		return cloud.Unknown
	}
	return answer
}

// targets evaluates the API and kops-controller behind the load balancer separately:
// the health of one says nothing about the other (kops#10139).
func (c *chain) targets() {
	if c.controlPlane() {
		return
	}
	if c.path == cloud.BootGossip || c.direct {
		c.add(LinkAPI, Unseen, "whether the control-plane nodes' API servers answer is not seen from here")
		return
	}
	balancers := c.balancers()
	if len(balancers) == 0 {
		if why, missing := c.in.gap("load balancers", ""); missing {
			c.add(LinkAPI, Undecided, "%s", why)
		} else {
			c.add(LinkAPI, Broken, "no load balancer stands in front of the API")
		}
		return
	}
	c.target(LinkAPI, portAPI, balancers)
	c.target(LinkController, portConfig, balancers)
}

// balancers returns the load balancers that the node connects through: those with
// the address or name of its first server, or else all but classic ones, which never
// serve nodes.
func (c *chain) balancers() []cloud.LoadBalancer {
	if c.in.Cloud == nil {
		return nil
	}
	host := ""
	if len(c.boot.Servers) > 0 {
		if u, err := url.Parse(c.boot.Servers[0]); err == nil {
			host = u.Hostname()
		}
	}
	addr, _ := netip.ParseAddr(host) // zero for a name; no load balancer has that
	var at, others []cloud.LoadBalancer
	for _, lb := range c.in.Cloud.LoadBalancers {
		switch {
		case slices.Contains(lb.Addresses, addr), host != "" && strings.EqualFold(lb.DNSName, host):
			at = append(at, lb)
		case lb.Class != classic:
			others = append(others, lb)
		}
	}
	if len(at) > 0 {
		return at
	}
	return others
}

// target evaluates one port of load balancers, by the one with most healthy targets.
func (c *chain) target(link string, port int, balancers []cloud.LoadBalancer) {
	var best *cloud.Listener
	name := ""
	for _, lb := range balancers {
		if l, ok := lb.Listener(port); ok && (best == nil || l.Healthy() > best.Healthy()) {
			best, name = &l, lb.Name
		}
	}
	if best == nil {
		for _, lb := range balancers {
			if why, missing := c.in.gap("listeners", lb.Name); missing {
				c.add(link, Undecided, "%s", why)
				return
			}
		}
		c.add(link, Broken, "no load balancer listens on port %d", port)
		return
	}
	healthy, undecided := best.Healthy(), 0
	for _, t := range best.Targets {
		if t.Health == cloud.TargetUnknown || t.Health == cloud.TargetInitial || t.Health == "" {
			undecided++
		}
	}
	switch why, missing := c.in.gap("target health", name); {
	case healthy > 0:
		c.add(link, Holds, "%d of %d targets healthy on port %d (%s)", healthy, len(best.Targets), port, best.Check)
	case best.Targets == nil && missing:
		c.add(link, Undecided, "target health: %s", why)
	case best.Targets == nil:
		c.add(link, Undecided, "the targets of port %d were not read", port)
	case undecided > 0:
		c.add(link, Undecided, "health of %d of %d targets on port %d is not known", undecided, len(best.Targets), port)
	case len(best.Targets) == 0:
		c.add(link, Broken, "port %d has no target", port)
	default:
		c.add(link, Broken, "none of %d targets is healthy on port %d", len(best.Targets), port)
	}
}

// hash evaluates whether the stored node configuration has the hash that the boot
// configuration pins. It can be compared only for nodes that use kops-controller;
// others hash more than the stored file. For a live node a mismatch is not known to
// be fatal: see [bootconfig.RebootRisk].
func (c *chain) hash() {
	if c.in.Store == nil {
		c.add(LinkHash, Undecided, "the state store was not read")
		return
	}
	config, ok := c.in.Store.NodeConfigs[c.group.Name]
	if !ok {
		for _, g := range c.in.Store.Gaps {
			if g.Subject == c.group.Name || g.Subject == "" {
				c.add(LinkHash, Undecided, "%s", g.Why)
				return
			}
		}
		c.add(LinkHash, Broken, "the state store holds no node configuration for the group")
		return
	}
	next := c.group.Template.Boot
	switch {
	case c.live && (c.usesController() && config.Hash != c.boot.ConfigHash || next != nil && next.ConfigHash != c.boot.ConfigHash) && c.boot.ConfigHash != "":
		c.add(LinkHash, Undecided, "%s", bootconfig.RebootRisk)
	case !c.usesController():
		c.add(LinkHash, Holds, "the state store holds it")
	case c.boot.ConfigHash == "":
		c.add(LinkHash, Undecided, "the boot configuration pins no hash")
	case config.Hash != c.boot.ConfigHash:
		c.add(LinkHash, Broken, "the server has %s, the template pins %s: a node retries for ever", config.Hash, c.boot.ConfigHash)
	default:
		c.add(LinkHash, Holds, "%s", config.Hash)
	}
}
