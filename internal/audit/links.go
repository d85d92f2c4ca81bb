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

// A chain collects the links of one boot.
type chain struct {
	in    Input
	group cloud.Group
	boot  cloud.BootConfig
	path  cloud.BootPath
	links []Link

	// live: it is about a node that there is, and a reboot of it.
	live bool
	// direct: the servers are control-plane nodes, and no load balancer is between.
	direct bool
}

func (c *chain) add(name string, state State, format string, args ...any) {
	c.links = append(c.links, Link{name, state, fmt.Sprintf(format, args...)})
}

// controlPlane reports whether the node runs an API server of its own.
func (c *chain) controlPlane() bool {
	return c.group.Role == cluster.RoleControlPlane || c.group.Role == cluster.RoleAPIServer
}

// asks reports whether the node asks kops-controller for its configuration.
func (c *chain) asks() bool {
	return c.path == cloud.BootAddresses || c.path == cloud.BootName
}

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

// serverAddr returns the address in a server's URL, if it is one.
func serverAddr(server string) (netip.Addr, bool) {
	u, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return a, err == nil
}

func (c *chain) endpoints() {
	switch c.path {
	case cloud.BootGossip, PathStore:
		c.seeds()
	case cloud.BootAddresses:
		c.addresses()
	case cloud.BootName:
		c.serverNames()
	}
}

// seeds: a node that gossips needs a control-plane instance to begin with.
func (c *chain) seeds() {
	n := len(c.in.controlPlane())
	switch {
	case c.controlPlane():
		c.add(LinkEndpoints, Holds, "reads %s, and runs its own API server", c.boot.ConfigBase)
	case n == 0:
		if why, missing := c.in.instancesUnread(); missing {
			c.add(LinkEndpoints, Undecided, "%s", why)
			return
		}
		c.add(LinkEndpoints, Broken, "no control-plane instance runs that could be a seed")
	case n == 1:
		c.add(LinkEndpoints, Holds, "gossip: 1 control-plane instance as a seed")
	default:
		c.add(LinkEndpoints, Holds, "gossip: %d control-plane instances as seeds", n)
	}
}

// addresses: the servers must be where something of this cluster listens. Up to
// kOps 1.36 a node never goes on to the second server, so the first one decides.
func (c *chain) addresses() {
	balancers, known := c.in.balancerAddrs()
	unread, missing := c.in.instancesUnread()
	var nodes []netip.Addr
	for _, i := range c.in.controlPlane() {
		nodes = append(nodes, i.Addr)
	}
	var strangers []string
	for i, server := range c.boot.Servers {
		addr, ok := serverAddr(server)
		switch {
		case !ok && i == 0:
			if state, detail := c.serverName(server); state != Holds {
				c.add(LinkEndpoints, state, "%s, and a node does not try the second server", detail)
				return
			}
		case !ok: // never asked
		case slices.Contains(balancers, addr):
		case slices.Contains(nodes, addr):
			c.direct = c.direct || i == 0
		default:
			switch {
			case i == 0 && !known:
				c.add(LinkEndpoints, Undecided, "%s is no control-plane node, and the load balancer's addresses are not known", addr)
				return
			case i == 0 && missing:
				c.add(LinkEndpoints, Undecided, "%s is not the load balancer's, and it is not known whether it is a control-plane node's: %s", addr, unread)
				return
			case i == 0:
				c.add(LinkEndpoints, Broken, "the first address, %s, is neither the load balancer's nor a control-plane node's, and a node does not try the second", addr)
				return
			case known && !missing:
				strangers = append(strangers, addr.String())
			}
		}
	}
	detail := strings.Join(c.boot.Servers, " ")
	if len(strangers) > 0 {
		detail += "; nobody's address any more: " + strings.Join(strangers, " ")
	}
	c.add(LinkEndpoints, Holds, "%s", detail)
}

// serverNames: the first server decides, as among addresses.
func (c *chain) serverNames() {
	c.direct = c.hosted() // hosted DNS names the control-plane nodes themselves
	state, detail := c.serverName(c.boot.Servers[0])
	c.add(LinkEndpoints, state, "%s", detail)
}

// hosted reports whether hosted DNS carries the cluster's names.
func (c *chain) hosted() bool {
	return c.in.Topology() == cluster.Public || c.in.Topology() == cluster.Private
}

// serverName judges a server that is named: a node that is new can resolve only
// what hosted DNS carries.
func (c *chain) serverName(server string) (State, string) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return Broken, fmt.Sprintf("%q is no URL of a server", server)
	}
	host := u.Hostname()
	if cluster.OwnsName(c.in.Spec.Name, host) && !c.hosted() {
		return Broken, fmt.Sprintf("no address, only the name %s, which nothing resolves for a node that is new", host)
	}
	switch addrs, asked := c.resolved(host); {
	case !asked:
		return Undecided, fmt.Sprintf("whether a new node resolves %s was not asked", host)
	case len(addrs) == 0:
		return Broken, host + " does not resolve"
	}
	return Holds, server + " resolves"
}

func (c *chain) resolved(host string) (addrs []netip.Addr, asked bool) {
	if c.in.Probes == nil {
		return nil, false
	}
	addrs, asked = c.in.Probes.Resolved[host]
	return addrs, asked
}

// names: a worker that gossips knows api.internal only while somebody publishes it.
func (c *chain) names() {
	if c.path != cloud.BootGossip || c.controlPlane() {
		return
	}
	if why, missing := c.in.instancesUnread(); missing && c.in.Topology() == cluster.None {
		c.add(LinkNames, Undecided, "whether any of the control plane still gossips is not known: %s", why)
		return
	}
	if c.in.Topology() == cluster.None && !slices.ContainsFunc(c.in.controlPlane(), func(i cloud.Instance) bool { return i.Generation != cloud.GenerationNew }) {
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

// network: what the rules let through.
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
		hops = []hop{{partWorkers, partControl, c.in.gossipPort()}, {partWorkers, partControl, portAPI}, {partWorkers, partControl, portConfig}}
	case c.direct:
		hops = []hop{{partWorkers, partControl, portAPI}, {partWorkers, partControl, portConfig}}
	default:
		hops = []hop{{partWorkers, partLB, portAPI}, {partWorkers, partLB, portConfig}, {partLB, partControl, portAPI}, {partLB, partControl, portConfig}}
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
			allowed = c.in.meshCallsWorkers()
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

// meshCallsWorkers reports whether the control plane's protokube calls that of a
// worker which may not call it, as kOps's firewall rules on GCE have it: one
// connection of the mesh carries both ways. Up to kOps 1.35 a control-plane node
// takes every instance of the cluster for a seed, since 1.36 only its own kind.
func (in Input) meshCallsWorkers() cloud.Answer {
	release, known := in.release()
	if g := in.Spec.Gossip; known && release >= cluster.Release136 || g != nil && g.Protocol == cluster.ProtocolMemberlist {
		return cloud.No
	}
	answer := in.Cloud.Network.Allows(partControl, partWorkers, "tcp", in.gossipPort())
	if answer == cloud.Yes && !known {
		return cloud.Unknown
	}
	return answer
}

// targets: both services behind the load balancer, each by itself.
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

// balancers returns the load balancers that the node goes through: those at its
// first server, and where that is none of theirs, all that can carry nodes. The
// health of another says nothing, such as of a classic one that is left over.
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
	addr, _ := netip.ParseAddr(host) // zero for a name, and no load balancer has that
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

// target judges one port of load balancers.
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
	healthy, waiting := best.Healthy(), 0
	for _, t := range best.Targets {
		if t.Health == cloud.TargetUnknown || t.Health == cloud.TargetInitial || t.Health == "" {
			waiting++
		}
	}
	switch why, missing := c.in.gap("target health", name); {
	case healthy > 0:
		c.add(link, Holds, "%d of %d targets healthy on port %d (%s)", healthy, len(best.Targets), port, best.Check)
	case best.Targets == nil && missing:
		c.add(link, Undecided, "target health: %s", why)
	case best.Targets == nil:
		c.add(link, Undecided, "the targets of port %d were not read", port)
	case waiting > 0:
		c.add(link, Undecided, "health of %d of %d targets on port %d is not known", waiting, len(best.Targets), port)
	case len(best.Targets) == 0:
		c.add(link, Broken, "port %d has no target", port)
	default:
		c.add(link, Broken, "none of %d targets is healthy on port %d", len(best.Targets), port)
	}
}

// hash: the node configuration on the server must be the one the template pins.
// Nodes that read the state store compare with more than the stored file. For a
// node that has joined before it is a risk, and the plan's as well.
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
	case c.live && (c.asks() && config.Hash != c.boot.ConfigHash || next != nil && next.ConfigHash != c.boot.ConfigHash) && c.boot.ConfigHash != "":
		c.add(LinkHash, Undecided, "%s", bootconfig.RebootRisk)
	case !c.asks():
		c.add(LinkHash, Holds, "the state store holds it")
	case c.boot.ConfigHash == "":
		c.add(LinkHash, Undecided, "the boot configuration pins no hash")
	case config.Hash != c.boot.ConfigHash:
		c.add(LinkHash, Broken, "the server has %s, the template pins %s: a node retries for ever", config.Hash, c.boot.ConfigHash)
	default:
		c.add(LinkHash, Holds, "%s", config.Hash)
	}
}
