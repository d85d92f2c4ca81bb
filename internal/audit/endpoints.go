package audit

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// serverAddr returns the host of a server's URL if it is an address.
func serverAddr(server string) (netip.Addr, bool) {
	u, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return a, err == nil
}

// endpoints evaluates where the node looks for the control plane.
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

// seeds evaluates the control-plane instances that a gossiping node can join.
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

// server is the evaluation of one server of a boot configuration.
type server struct {
	state  State
	detail string     // empty for an address that holds
	addr   netip.Addr // zero for a name
	direct bool       // the address is a control-plane node's
}

// addresses evaluates servers of which at least one is an address. Up to kOps 1.36 a
// node never tries its second server, so the first one decides; since 1.37 it tries
// them in turn, so one that works is enough.
func (c *chain) addresses() {
	release, err := cluster.ParseRelease(c.boot.KopsVersion)
	firstOnly := err != nil || release < cluster.Release137
	servers := make([]server, len(c.boot.Servers))
	for i, text := range c.boot.Servers {
		servers[i] = c.server(text, i == 0 && firstOnly)
	}
	deciding := servers[0]
	for _, want := range []State{Undecided, Holds} {
		i := slices.IndexFunc(servers, func(s server) bool { return s.state == want })
		if !firstOnly && i >= 0 {
			deciding = servers[i]
		}
	}
	if deciding.state != Holds {
		c.add(LinkEndpoints, deciding.state, "%s", deciding.detail)
		return
	}
	c.direct = deciding.direct
	detail := strings.Join(c.boot.Servers, " ")
	var stale []string
	for _, s := range servers {
		if s.state == Broken && s.addr.IsValid() {
			stale = append(stale, s.addr.String())
		}
	}
	if len(stale) > 0 {
		detail += "; nobody's address any more: " + strings.Join(stale, " ")
	}
	c.add(LinkEndpoints, Holds, "%s", detail)
}

// server evaluates one server. only says that the node tries no other.
func (c *chain) server(text string, only bool) (s server) {
	addr, ok := serverAddr(text)
	if !ok {
		s.state, s.detail = c.serverName(text)
		if only {
			s.detail += ", and a node does not try the second server"
		}
		return s
	}
	s = server{state: Holds, addr: addr}
	balancers, known := c.in.balancerAddrs()
	unread, missing := c.in.instancesUnread()
	switch {
	case slices.Contains(balancers, addr):
	case slices.ContainsFunc(c.in.controlPlane(), func(i cloud.Instance) bool { return i.Addr == addr }):
		s.direct = true
	case !known:
		s.state, s.detail = Undecided, fmt.Sprintf("%s is no control-plane node, and the load balancer's addresses are not known", addr)
	case missing:
		s.state, s.detail = Undecided, fmt.Sprintf("%s is not the load balancer's, and it is not known whether it is a control-plane node's: %s", addr, unread)
	case only:
		s.state, s.detail = Broken, fmt.Sprintf("the first address, %s, is neither the load balancer's nor a control-plane node's, and a node does not try the second", addr)
	default:
		s.state, s.detail = Broken, fmt.Sprintf("no address is the load balancer's or a control-plane node's; the first is %s", addr)
	}
	return s
}

// serverNames evaluates servers that are all names, by the first one.
func (c *chain) serverNames() {
	c.direct = c.hosted() // the records are those of the control-plane nodes
	state, detail := c.serverName(c.boot.Servers[0])
	c.add(LinkEndpoints, state, "%s", detail)
}

// hosted reports whether the cluster's names are in hosted DNS.
func (c *chain) hosted() bool {
	return c.in.Topology() == cluster.Public || c.in.Topology() == cluster.Private
}

// serverName evaluates a server that is a name. A new node can resolve only names
// that hosted DNS has.
func (c *chain) serverName(server string) (State, string) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return Broken, fmt.Sprintf("%q is no URL of a server", server)
	}
	host := u.Hostname()
	if cluster.OwnsName(c.in.Spec.Name, host) && !c.hosted() {
		return Broken, fmt.Sprintf("no address, only the name %s, which nothing resolves for a node that is new", host)
	}
	switch addrs, ok := c.resolved(host); {
	case !ok:
		return Undecided, fmt.Sprintf("whether a new node resolves %s was not asked", host)
	case len(addrs) == 0:
		return Broken, host + " does not resolve"
	}
	return Holds, server + " resolves"
}

// resolved returns the addresses of a name, if it was looked up.
func (c *chain) resolved(host string) (addrs []netip.Addr, ok bool) {
	if c.in.Probes == nil {
		return nil, false
	}
	addrs, ok = c.in.Probes.Resolved[host]
	return addrs, ok
}
