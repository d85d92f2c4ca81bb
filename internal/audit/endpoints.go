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

// server is what is known of one server in a boot configuration.
type server struct {
	state  State
	detail string // unless it holds
	addr   netip.Addr
	direct bool // a control-plane node's own
}

// addresses judges the servers of a boot configuration, which must be where
// something of this cluster listens. Up to kOps 1.36 a node never goes on to the
// second server, so that the first decides; since 1.37 one is enough.
func (c *chain) addresses() {
	release, err := cluster.ParseRelease(c.boot.KopsVersion)
	firstOnly := err != nil || release < cluster.Release137
	servers := make([]server, len(c.boot.Servers))
	for i, text := range c.boot.Servers {
		servers[i] = c.server(text, i == 0 && firstOnly)
	}
	decides := servers[0]
	for _, want := range []State{Undecided, Holds} {
		i := slices.IndexFunc(servers, func(s server) bool { return s.state == want })
		if !firstOnly && i >= 0 {
			decides = servers[i]
		}
	}
	if decides.state != Holds {
		c.add(LinkEndpoints, decides.state, "%s", decides.detail)
		return
	}
	c.direct = decides.direct
	detail := strings.Join(c.boot.Servers, " ")
	var strangers []string
	for _, s := range servers {
		if s.state == Broken && s.addr.IsValid() {
			strangers = append(strangers, s.addr.String())
		}
	}
	if len(strangers) > 0 {
		detail += "; nobody's address any more: " + strings.Join(strangers, " ")
	}
	c.add(LinkEndpoints, Holds, "%s", detail)
}

// server judges a server; last says that a node tries none after it.
func (c *chain) server(text string, last bool) (s server) {
	addr, ok := serverAddr(text)
	if !ok {
		s.state, s.detail = c.serverName(text)
		if last {
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
	case last:
		s.state, s.detail = Broken, fmt.Sprintf("the first address, %s, is neither the load balancer's nor a control-plane node's, and a node does not try the second", addr)
	default:
		s.state, s.detail = Broken, fmt.Sprintf("no address is the load balancer's or a control-plane node's; the first is %s", addr)
	}
	return s
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
