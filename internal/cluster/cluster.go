package cluster

import (
	"net/netip"
)

// Cloud is a cloud provider by the name that kOps gives it.
type Cloud string

// The clouds of kOps.
const (
	AWS          Cloud = "aws"
	Azure        Cloud = "azure"
	DigitalOcean Cloud = "digitalocean"
	GCE          Cloud = "gce"
	Hetzner      Cloud = "hetzner"
	Linode       Cloud = "linode"
	Metal        Cloud = "metal"
	OpenStack    Cloud = "openstack"
	Scaleway     Cloud = "scaleway"
)

// DNSType is spec.topology.dns.type. The empty value means that the spec does
// not say, which kOps reads as [DNSPublic].
type DNSType string

// The DNS types of kOps.
const (
	DNSPublic  DNSType = "Public"
	DNSPrivate DNSType = "Private"
	DNSNone    DNSType = "None"
)

// Role is what the nodes of an instance group are for.
type Role string

// The roles of kOps. The older spelling Master reads as RoleControlPlane.
const (
	RoleControlPlane Role = "ControlPlane"
	RoleNode         Role = "Node"
	RoleAPIServer    Role = "APIServer"
	RoleBastion      Role = "Bastion"
)

// Cluster is the part of a kOps cluster that decides how its nodes find the
// API. It comes from [Parse]; changes must keep the invariants of the package comment.
type Cluster struct {
	// Name is the cluster's name, a lower-case DNS name without a trailing dot.
	Name  string
	Cloud Cloud

	// KubernetesVersion is the text of the spec, with or without a leading v,
	// or empty.
	KubernetesVersion string

	DNSType DNSType
	API     API

	// NetworkCIDRs are the cluster's own networks, spec.networkCIDR first.
	// Empty when the spec leaves the choice to the cloud, as it does on GCE.
	NetworkCIDRs []netip.Prefix

	// NonMasqueradeCIDR is the pods' and services' network; the zero prefix
	// when the spec does not say.
	NonMasqueradeCIDR netip.Prefix

	Subnets []Subnet

	// ExternalDNSProvider is spec.externalDns.provider; empty means kOps's own
	// dns-controller.
	ExternalDNSProvider string

	// Gossip and DNSControllerGossip are spec.gossipConfig and
	// spec.dnsControllerGossipConfig. Nil means absent; an empty object in the
	// spec is not nil, because kOps 1.37 refuses even that.
	Gossip              *GossipConfig
	DNSControllerGossip *GossipConfig

	Groups []Group

	// Line is where the Cluster document gives its name.
	Line int
}

// API says how the API server is reached from outside.
type API struct {
	// LoadBalancer is nil when the spec asks for none.
	LoadBalancer *LoadBalancer

	// DNS is true when spec.api.dns is present, even if empty.
	DNS bool

	// PublicName is spec.masterPublicName, or empty. On nodes with an API
	// server kOps maps it to 127.0.0.1.
	PublicName string

	// Access are the networks that may reach the API. An AWS prefix list
	// ("pl-...") stands in AccessLists instead.
	Access      []netip.Prefix
	AccessLists []string
}

// LoadBalancer is spec.api.loadBalancer.
type LoadBalancer struct {
	// Type is empty when the spec does not say.
	Type LoadBalancerType

	// Class matters on AWS only. Empty means Classic there: kOps writes Network
	// into new specs, but reads a missing class as the old default.
	Class LoadBalancerClass

	// UseForInternalAPI makes api.internal resolve to the load balancer where
	// DNS is hosted.
	UseForInternalAPI bool
}

// LoadBalancerType says from where a load balancer can be reached.
type LoadBalancerType string

// The load balancer types of kOps.
const (
	LoadBalancerPublic   LoadBalancerType = "Public"
	LoadBalancerInternal LoadBalancerType = "Internal"
)

// LoadBalancerClass is the kind of an AWS load balancer.
type LoadBalancerClass string

// The load balancer classes of kOps.
const (
	LoadBalancerClassic LoadBalancerClass = "Classic"
	LoadBalancerNetwork LoadBalancerClass = "Network"
)

// Subnet is one of spec.subnets.
type Subnet struct {
	Name string
	// CIDR is the zero prefix when the spec does not say.
	CIDR netip.Prefix
	Zone string
	// Type is Public, Private, Utility or DualStack, as the spec spells it.
	Type string
	Line int
}

// GossipConfig is spec.gossipConfig or spec.dnsControllerGossipConfig. kOps
// checks none of it, so [Parse] does.
type GossipConfig struct {
	// Protocol is empty when the spec does not name one: mesh for the primary
	// overlay, memberlist for the secondary.
	Protocol GossipProtocol

	// ProtocolEmpty is true when the spec names a protocol and that is the
	// empty text, which takes the place of the default.
	ProtocolEmpty bool

	// Listen is the zero value when the spec does not say. An address without a
	// host (":3999") is read as [::], any address of the machine.
	Listen netip.AddrPort

	// Seed is the first peer of dns-controller, or the zero value. Port 0 means
	// that the spec names no port and the listening port is meant.
	Seed netip.AddrPort

	// Secret is the password of the overlay; [Secret.Set] tells if there is one.
	Secret Secret

	// Secondary is the second overlay's configuration, or nil. kOps reads one
	// level, so a secondary has no secondary of its own here.
	Secondary *GossipConfig
}

// GossipProtocol is a legacy overlay's wire protocol.
type GossipProtocol string

// The gossip protocols of kOps.
const (
	ProtocolMesh       GossipProtocol = "mesh"
	ProtocolMemberlist GossipProtocol = "memberlist"
)

// Group is an instance group.
type Group struct {
	// Name is a lower-case DNS name, unique in the cluster.
	Name string
	Role Role

	// MinSize and MaxSize count nodes, 0 <= MinSize <= MaxSize. What the spec
	// leaves out is filled in as kOps does: 1 for control plane and bastions, 2
	// for other roles. A filled-in bound gives way to one that is written.
	MinSize int
	MaxSize int

	// Subnets are names from the cluster's Subnets.
	Subnets []string

	// Line is where the InstanceGroup document gives its name.
	Line int
}

// Size is the number of nodes that a rehearsal starts for the group: MinSize,
// what the group has when nothing scales it.
func (g Group) Size() int { return g.MinSize }

// GroupsOf returns the groups with the given role, in the order of the file.
func (c *Cluster) GroupsOf(role Role) []Group {
	var groups []Group
	for _, g := range c.Groups {
		if g.Role == role {
			groups = append(groups, g)
		}
	}
	return groups
}

// Size is the number of nodes that a rehearsal starts for all groups with the
// given role.
func (c *Cluster) Size(role Role) int {
	n := 0
	for _, g := range c.GroupsOf(role) {
		n += g.Size()
	}
	return n
}
