package manifest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

const apiVersion = "kops.k8s.io/v1alpha2"

// empty is written as {}.
type empty struct{}

type metadata struct {
	Labels map[string]string `yaml:"labels,omitempty"`
	Name   string            `yaml:"name"`
}

// clusterDoc and its parts have their fields in the order in which kOps writes them.
type clusterDoc struct {
	APIVersion string      `yaml:"apiVersion"`
	Kind       string      `yaml:"kind"`
	Metadata   metadata    `yaml:"metadata"`
	Spec       clusterSpec `yaml:"spec"`
}

type clusterSpec struct {
	API                 api             `yaml:"api"`
	Authorization       map[string]any  `yaml:"authorization"`
	Channel             string          `yaml:"channel"`
	CloudProvider       cluster.Cloud   `yaml:"cloudProvider"`
	ConfigBase          string          `yaml:"configBase"`
	EtcdClusters        []etcdCluster   `yaml:"etcdClusters"`
	IAM                 iam             `yaml:"iam"`
	Kubelet             kubelet         `yaml:"kubelet"`
	KubernetesAPIAccess []string        `yaml:"kubernetesApiAccess"`
	KubernetesVersion   string          `yaml:"kubernetesVersion"`
	NetworkCIDR         string          `yaml:"networkCIDR,omitempty"`
	Networking          networking      `yaml:"networking"`
	NonMasqueradeCIDR   string          `yaml:"nonMasqueradeCIDR"`
	Project             string          `yaml:"project,omitempty"`
	SSHAccess           []string        `yaml:"sshAccess"`
	Subnets             []clusterSubnet `yaml:"subnets"`
	Topology            topology        `yaml:"topology"`
}

type api struct {
	LoadBalancer *loadBalancer `yaml:"loadBalancer,omitempty"`
}

type loadBalancer struct {
	Class cluster.LoadBalancerClass `yaml:"class,omitempty"`
	Type  cluster.LoadBalancerType  `yaml:"type"`
}

type etcdCluster struct {
	EtcdMembers []etcdMember `yaml:"etcdMembers"`
	Name        string       `yaml:"name"`
}

type etcdMember struct {
	EncryptedVolume bool   `yaml:"encryptedVolume,omitempty"`
	InstanceGroup   string `yaml:"instanceGroup"`
	Name            string `yaml:"name"`
}

type iam struct {
	AllowContainerRegistry bool `yaml:"allowContainerRegistry"`
	Legacy                 bool `yaml:"legacy"`
}

type kubelet struct {
	AnonymousAuth bool `yaml:"anonymousAuth"`
}

type networking struct {
	Cilium empty `yaml:"cilium"`
}

type clusterSubnet struct {
	CIDR   string `yaml:"cidr,omitempty"`
	Name   string `yaml:"name"`
	Region string `yaml:"region,omitempty"`
	Type   string `yaml:"type"`
	Zone   string `yaml:"zone,omitempty"`
}

type topology struct {
	DNS dns `yaml:"dns"`
}

type dns struct {
	Type cluster.DNSType `yaml:"type"`
}

type groupDoc struct {
	APIVersion string    `yaml:"apiVersion"`
	Kind       string    `yaml:"kind"`
	Metadata   metadata  `yaml:"metadata"`
	Spec       groupSpec `yaml:"spec"`
}

type groupSpec struct {
	Image       string   `yaml:"image,omitempty"`
	MachineType string   `yaml:"machineType,omitempty"`
	MaxSize     int      `yaml:"maxSize"`
	MinSize     int      `yaml:"minSize"`
	Role        string   `yaml:"role"`
	Subnets     []string `yaml:"subnets"`
	Zones       []string `yaml:"zones,omitempty"`
}

func (c Config) cluster(controlPlane []groupDoc) clusterDoc {
	spec := clusterSpec{
		API:                 api{&loadBalancer{Type: c.LoadBalancer}},
		Authorization:       map[string]any{"rbac": empty{}},
		Channel:             "stable",
		CloudProvider:       c.Cloud,
		ConfigBase:          strings.TrimSuffix(c.StateStore, "/") + "/" + c.Name,
		IAM:                 iam{AllowContainerRegistry: true},
		KubernetesAPIAccess: prefixStrings(c.Access),
		KubernetesVersion:   c.KubernetesVersion,
		NonMasqueradeCIDR:   "100.64.0.0/10",
		SSHAccess:           prefixStrings(c.Access),
		Subnets:             c.subnets(),
		Topology:            topology{dns{cluster.DNSNone}},
	}
	switch c.Cloud {
	case cluster.AWS:
		// Only a network load balancer carries the port at which workers get their configuration.
		spec.API.LoadBalancer.Class = cluster.LoadBalancerNetwork
	case cluster.GCE:
		spec.Project = c.Project
	case cluster.Metal:
		spec.API.LoadBalancer = nil
	}
	if c.hasSubnetCIDRs() {
		spec.NetworkCIDR = c.Network.String()
	}
	for _, name := range []string{"main", "events"} {
		e := etcdCluster{Name: name}
		for i, g := range controlPlane {
			e.EtcdMembers = append(e.EtcdMembers, etcdMember{
				EncryptedVolume: c.Cloud == cluster.AWS, InstanceGroup: g.Metadata.Name, Name: string(rune('a' + i)),
			})
		}
		spec.EtcdClusters = append(spec.EtcdClusters, e)
	}
	return clusterDoc{apiVersion, "Cluster", metadata{Name: c.Name}, spec}
}

func prefixStrings(prefixes []netip.Prefix) (list []string) {
	for _, p := range prefixes {
		list = append(list, p.String())
	}
	return list
}

func (c Config) subnets() []clusterSubnet {
	if c.Cloud == cluster.GCE { // a subnet there spans its region
		return []clusterSubnet{{Name: c.region(c.Zones[0]), Region: c.region(c.Zones[0]), Type: "Public"}}
	}
	var list []clusterSubnet
	for i, zone := range c.Zones {
		s := clusterSubnet{Name: zone, Type: "Public", Zone: zone}
		if c.hasSubnetCIDRs() {
			s.CIDR = c.subnet(i)
		}
		list = append(list, s)
	}
	return list
}

// controlPlane returns an instance group for each control-plane node, round-robin over the zones.
func (c Config) controlPlane() []groupDoc {
	var groups []groupDoc
	for i := range c.ControlPlaneCount {
		zone := c.Zones[i%len(c.Zones)]
		name := "control-plane-" + zone
		if c.ControlPlaneCount > len(c.Zones) {
			name = fmt.Sprintf("%s-%d", name, i/len(c.Zones)+1)
		}
		// Master is how kOps writes the role.
		groups = append(groups, c.group(name, "Master", c.ControlPlaneSize, zone, 1))
	}
	return groups
}

// nodes returns an instance group for each zone that gets a worker.
func (c Config) nodes() []groupDoc {
	var groups []groupDoc
	for i, zone := range c.Zones {
		n := c.NodeCount / len(c.Zones)
		if i < c.NodeCount%len(c.Zones) {
			n++
		}
		if n > 0 {
			groups = append(groups, c.group("nodes-"+zone, "Node", c.NodeSize, zone, n))
		}
	}
	return groups
}

func (c Config) group(name, role, size, zone string, n int) groupDoc {
	g := groupDoc{APIVersion: apiVersion, Kind: "InstanceGroup", Metadata: metadata{Labels: map[string]string{"kops.k8s.io/cluster": c.Name}, Name: name}}
	g.Spec = groupSpec{Image: c.Image, MachineType: size, MaxSize: n, MinSize: n, Role: role, Subnets: []string{zone}}
	if c.Cloud == cluster.GCE {
		g.Spec.Subnets, g.Spec.Zones = []string{c.region(zone)}, []string{zone}
	}
	return g
}
