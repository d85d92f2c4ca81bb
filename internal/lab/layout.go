package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/node"
)

// The lab's ports. The API's is not 443, so that the lab needs no privileges; everything else is as on a real node.
const (
	APIPort      = 6443
	balancerPort = 6444 // muster-agent's local balancer
)

// Node is one machine of the lab.
type Node struct {
	Name  string
	Group string
	Role  identity.Role
	Addr  netip.Addr
}

// Layout is the nodes of a lab: those of the spec, each with an address.
type Layout struct {
	Cluster      *cluster.Cluster
	Nodes        []Node     // control plane first, in the order of the spec
	LoadBalancer netip.Addr // the zero Addr if the spec has none
	Network      netip.Prefix
	etcd         netip.Addr // of real API servers
	nextFree     netip.Addr // the next free address
}

// NewLayout assigns the nodes of a spec addresses in a /16 network. Groups have minSize nodes; bastions take no part
// in discovery and are left out.
func NewLayout(c *cluster.Cluster, network netip.Prefix) (Layout, error) {
	l := Layout{Cluster: c, Network: network}
	host := func(third, fourth int) netip.Addr {
		b := network.Addr().As4()
		binary.BigEndian.PutUint16(b[2:], uint16(third)<<8|uint16(fourth))
		return netip.AddrFrom4(b)
	}
	roles := map[cluster.Role]identity.Role{
		cluster.RoleControlPlane: identity.ControlPlane,
		cluster.RoleNode:         identity.Worker,
	}
	for third, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleNode} {
		count := 0
		for _, g := range c.Groups {
			if g.Role != role {
				continue
			}
			for i := range g.MinSize {
				count++
				if count > 250 {
					return Layout{}, fmt.Errorf("cluster %s has more than 250 nodes of role %s; a lab on one machine stops there", c.Name, role)
				}
				name := g.Name
				if g.MinSize > 1 {
					name = fmt.Sprintf("%s-%d", g.Name, i+1)
				}
				if slices.ContainsFunc(l.Nodes, func(n Node) bool { return n.Name == name }) {
					return Layout{}, &UsageError{fmt.Errorf("cluster %s: two nodes of the lab would be called %q; rename group %q", c.Name, name, g.Name)}
				}
				l.Nodes = append(l.Nodes, Node{Name: name, Group: g.Name, Role: roles[role], Addr: host(third+1, count)})
			}
		}
	}
	if c.API.LoadBalancer != nil {
		l.LoadBalancer = host(3, 1)
	}
	l.etcd = host(3, 2)
	l.nextFree = host(4, 1)
	return l, nil
}

// ControlPlane returns the control-plane nodes.
func (l Layout) ControlPlane() []Node { return l.withRole(identity.ControlPlane) }

// Workers returns the workers.
func (l Layout) Workers() []Node { return l.withRole(identity.Worker) }

func (l Layout) withRole(role identity.Role) (nodes []Node) {
	for _, n := range l.Nodes {
		if n.Role == role {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Groups returns the names of the groups with nodes of a role, in order.
func (l Layout) Groups(role identity.Role) (groups []string) {
	for _, n := range l.withRole(role) {
		if len(groups) == 0 || groups[len(groups)-1] != n.Group {
			groups = append(groups, n.Group)
		}
	}
	return groups
}

func (l Layout) addrs(port uint16) (addrs []netip.AddrPort) {
	for _, n := range l.ControlPlane() {
		addrs = append(addrs, netip.AddrPortFrom(n.Addr, port))
	}
	return addrs
}

// balancer returns the load balancer's address for a port; empty without one.
func (l Layout) balancer(port uint16) []netip.AddrPort {
	if !l.LoadBalancer.IsValid() {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(l.LoadBalancer, port)}
}

// Program is a program on a node.
type Program string

// The programs of a lab. Kubelet represents everything on a worker that calls the API; APIServer is the small
// built-in one, and KubeAPIServer the real one.
const (
	Peer         Program = "muster-peer"
	Agent        Program = "muster-agent"
	Kubelet      Program = "kubelet stand-in"
	APIServer    Program = "API server (built in)"
	LoadBalancer Program = "load balancer"
	Stranger     Program = "unknown program" // not started by the lab

	KubeAPIServer Program = "kube-apiserver"
)

// services returns the services section of a node's configuration.
func (l Layout) services(n Node, p Program, discovery bool) []node.Service {
	api := node.Service{Name: "api.internal"}
	// In a kOps cluster kops-controller.internal is the worker-facing service; in the lab Muster's own is behind it.
	controller := node.Service{
		Name:       "kops-controller.internal",
		Check:      "/healthz",
		ServerName: "muster.internal." + l.Cluster.Name,
	}
	if n.Role == identity.ControlPlane {
		api.Publish = node.AddrPort{AddrPort: netip.AddrPortFrom(n.Addr, APIPort)}
		if discovery {
			controller.Publish = node.AddrPort{AddrPort: netip.AddrPortFrom(n.Addr, node.DiscoveryPort)}
		}
	}
	if p == Agent {
		api.LoadBalancer, api.Addresses = l.balancer(APIPort), l.addrs(APIPort)
		controller.LoadBalancer, controller.Addresses = l.balancer(node.DiscoveryPort), l.addrs(node.DiscoveryPort)
	}
	return []node.Service{api, controller}
}
