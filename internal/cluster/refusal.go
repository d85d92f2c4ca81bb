package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Code names a reason for a [Refusal]. Codes are stable: scripts match them.
type Code string

// The reasons against a topology.
const (
	// CodeCloudTopology: kOps has no such topology on the cloud.
	CodeCloudTopology Code = "cloud-topology"
	// CodeReleaseWithoutGossip: the release refuses gossip clusters.
	CodeReleaseWithoutGossip Code = "release-without-gossip"
	// CodeReleaseWithoutHybrid: the release does not know hybrid.
	CodeReleaseWithoutHybrid Code = "release-without-hybrid"
	// CodeBecomesHybrid: the release makes workers stop gossiping by itself.
	CodeBecomesHybrid Code = "becomes-hybrid"
	// CodeWorkersStripped: the release takes from gossiping workers what they
	// need to find the API.
	CodeWorkersStripped Code = "workers-stripped"
	// CodeNameNotGossip: the cluster's name does not end in .k8s.local.
	CodeNameNotGossip Code = "name-not-gossip"
	// CodeNameIsGossip: the cluster's name ends in .k8s.local.
	CodeNameIsGossip Code = "name-is-gossip"
	// CodeNameWithoutDot: the cluster's name has no dot.
	CodeNameWithoutDot Code = "name-without-dot"
	// CodeGossipFields: a configuration field of gossip is set.
	CodeGossipFields Code = "gossip-fields"
	// CodeNoLoadBalancer: nothing stands in front of the API.
	CodeNoLoadBalancer Code = "no-load-balancer"
	// CodeLoadBalancerClass: the AWS load balancer is a classic one.
	CodeLoadBalancerClass Code = "load-balancer-class"
	// CodeInternalLoop: an internal network load balancer would serve the nodes
	// behind it.
	CodeInternalLoop Code = "internal-loop"
	// CodeExternalDNS: external-dns has no hosted zone to write to.
	CodeExternalDNS Code = "external-dns"
	// CodeAPIServerRole: an instance group has the role APIServer.
	CodeAPIServerRole Code = "api-server-role"
	// CodeAPIServerCloud: the cloud has no instance groups of role APIServer.
	CodeAPIServerCloud Code = "api-server-cloud"
)

// Refusal is one reason why a spec cannot have a topology.
type Refusal struct {
	Code Code

	// KopsAccepts is true if kOps accepts the spec nevertheless. The reason is then what happens to the nodes.
	KopsAccepts bool

	// Path is the field of the v1alpha2 spec to look at.
	Path string

	// Why is one sentence without a final stop: what stands in the way.
	Why string

	// Next is one sentence without a final stop: what to do about it.
	Next string
}

// String returns the refusal in one line.
func (f Refusal) String() string { return f.Path + ": " + f.Why + "; " + f.Next }

// Refusals returns the reasons why the cluster's spec cannot have the given topology under the given kOps release, the
// DNS type itself aside: what kOps refuses, and what kOps accepts but leaves nodes without a way to the API. An empty
// result means that setting the DNS type is enough.
//
// It says nothing about the order of changes: a spec may qualify for None while changing it directly would strand the
// workers that gossip today. Package plan answers that.
func (c *Cluster) Refusals(target Topology, r Release) []Refusal {
	var all []Refusal
	all = append(all, c.refusedTopology(target, r)...)
	all = append(all, c.refusedName(target)...)
	all = append(all, c.refusedGossipFields(r)...)
	all = append(all, c.refusedBalancer(target, r)...)
	all = append(all, c.refusedProvider(target)...)
	all = append(all, c.refusedGroups(target)...)
	return all
}

const dnsTypePath = "spec.topology.dns.type"

// refusedTopology checks that the release supports the topology on this cloud.
func (c *Cluster) refusedTopology(target Topology, r Release) []Refusal {
	gossips := target == Gossip || target == Hybrid
	known := rulesOf(r)
	f := Refusal{Path: dnsTypePath}
	switch {
	case !slices.Contains(Topologies(), target):
		f.Code = CodeCloudTopology
		f.Why = fmt.Sprintf("topology %q is unknown", string(target))
		f.Next = "choose one of " + join(Topologies())
	case gossips && !known.gossip:
		f.Code = CodeReleaseWithoutGossip
		f.Why = fmt.Sprintf("kOps %s refuses gossip clusters", r)
		f.Next = fmt.Sprintf("move the cluster to None with kOps %s before this release touches it", Release136)
	case target == Hybrid && !known.hybrid:
		f.Code = CodeReleaseWithoutHybrid
		f.Why = fmt.Sprintf("kOps %s does not know hybrid", r)
		f.Next = fmt.Sprintf("use kOps %s, the only release that does", Release136)
	case !Supports(c.Cloud, target, r):
		f.Code = CodeCloudTopology
		f.Why = fmt.Sprintf("kOps has no %s clusters on %q", target, string(c.Cloud))
		f.Next = "choose one of " + join(c.supported(r))
	case target == Gossip && known.hybrid && c.hasBalancerForNodes():
		f.Code, f.KopsAccepts, f.Path = CodeBecomesHybrid, true, "spec.api.loadBalancer"
		f.Why = fmt.Sprintf("kOps %s makes a gossip cluster with this load balancer hybrid", r)
		f.Next = "take hybrid as the target"
	case target == Gossip && slices.Contains(known.stripped, c.Cloud):
		f.Code, f.KopsAccepts, f.Path = CodeWorkersStripped, true, "spec.api.loadBalancer"
		f.Why = fmt.Sprintf("kOps %s takes the workers' cloud credentials on %s, and without a load balancer they still need them to find the API", r, c.Cloud)
		f.Next = "add spec.api.loadBalancer and take hybrid as the target"
	default:
		return nil
	}
	return []Refusal{f}
}

func (c *Cluster) supported(r Release) []Topology {
	return slices.DeleteFunc(Topologies(), func(t Topology) bool { return !Supports(c.Cloud, t, r) })
}

// refusedName checks that the name allows the topology. None allows any name.
func (c *Cluster) refusedName(target Topology) []Refusal {
	f := Refusal{Path: "metadata.name"}
	isGossip := IsGossipName(c.Name)
	switch {
	case target == None:
		return nil
	case (target == Gossip || target == Hybrid) && !isGossip:
		f.Code = CodeNameNotGossip
		f.Why = fmt.Sprintf("only names that end in %s gossip, and %q does not", gossipSuffix, c.Name)
		f.Next = "take none as the target, since a cluster cannot be renamed"
	case (target == Public || target == Private) && isGossip:
		f.Code = CodeNameIsGossip
		f.Why = fmt.Sprintf("kOps never publishes names that end in %s to hosted DNS", gossipSuffix)
		f.Next = "take none as the target, since a cluster cannot be renamed"
	case !strings.Contains(c.Name, "."):
		f.Code = CodeNameWithoutDot
		f.Why = fmt.Sprintf("name %q has no dot, which kOps allows with DNS type None only", c.Name)
		f.Next = "take none as the target, since a cluster cannot be renamed"
	default:
		return nil
	}
	return []Refusal{f}
}

// refusedGossipFields: 1.37 refuses the fields whatever the topology, and even
// when they are empty objects.
func (c *Cluster) refusedGossipFields(r Release) []Refusal {
	if rulesOf(r).gossip {
		return nil
	}
	var all []Refusal
	for _, field := range []struct {
		path string
		set  bool
	}{
		{"spec.gossipConfig", c.Gossip != nil},
		{"spec.dnsControllerGossipConfig", c.DNSControllerGossip != nil},
	} {
		if field.set {
			all = append(all, Refusal{
				Code: CodeGossipFields,
				Path: field.path,
				Why:  fmt.Sprintf("kOps %s refuses this field, even empty", r),
				Next: "delete it once no node gossips any more",
			})
		}
	}
	return all
}

// refusedBalancer checks that the API's load balancer can carry the nodes' traffic.
func (c *Cluster) refusedBalancer(target Topology, r Release) []Refusal {
	lb := c.API.LoadBalancer
	forNodes := target == None || target == Hybrid
	if lb == nil {
		if !forNodes {
			return nil
		}
		return []Refusal{{
			Code:        CodeNoLoadBalancer,
			KopsAccepts: true,
			Path:        "spec.api.loadBalancer",
			Why:         "without a load balancer kOps gives workers no address of the API",
			Next:        "add spec.api.loadBalancer, on AWS with class Network, and see that workers reach the API through it",
		}}
	}
	if c.Cloud != AWS {
		return nil
	}
	var all []Refusal
	network := forNodes || !rulesOf(r).classic
	if network && lb.Class != LoadBalancerNetwork {
		f := Refusal{
			Code:        CodeLoadBalancerClass,
			KopsAccepts: target == Hybrid,
			Path:        "spec.api.loadBalancer.class",
			Why:         "a classic load balancer does not carry the nodes' traffic",
			Next:        "set class Network first, which replaces the load balancer, then export the kubeconfig again and delete the classic one by hand",
		}
		if lb.Class == "" {
			f.Why = "a missing class means Classic, and " + f.Why
		}
		all = append(all, f)
	}
	if (network || lb.Class == LoadBalancerNetwork) && lb.Type == LoadBalancerInternal && lb.UseForInternalAPI {
		all = append(all, Refusal{
			Code: CodeInternalLoop,
			Path: "spec.api.loadBalancer.useForInternalApi",
			Why:  "kOps refuses useForInternalApi with an internal network load balancer, which cannot send a node's traffic back to the same node",
			Next: "remove useForInternalApi",
		})
	}
	return all
}

func (c *Cluster) refusedProvider(target Topology) []Refusal {
	if c.ExternalDNSProvider != "external-dns" || target == Public || target == Private {
		return nil
	}
	return []Refusal{{
		Code: CodeExternalDNS,
		Path: "spec.externalDns.provider",
		Why:  "external-dns needs hosted DNS, so kOps refuses it here",
		Next: "remove the provider, or set it to dns-controller",
	}}
}

func (c *Cluster) refusedGroups(target Topology) []Refusal {
	var all []Refusal
	for _, g := range c.GroupsOf(RoleAPIServer) {
		f := Refusal{Path: "instance group " + strconv.Quote(g.Name) + ": spec.role"}
		switch {
		case c.Cloud != AWS && c.Cloud != GCE:
			f.Code = CodeAPIServerCloud
			f.Why = fmt.Sprintf("kOps has role APIServer on aws and gce only, not on %q", string(c.Cloud))
			f.Next = "delete the group"
		case target == None:
			f.Code = CodeAPIServerRole
			f.Why = "kOps refuses role APIServer with DNS type None"
			f.Next = "add control-plane capacity and delete the group before the change"
		default:
			continue
		}
		all = append(all, f)
	}
	return all
}
