package audit

import (
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

const (
	name        = "atlas.k8s.local"
	workers     = "nodes-a"
	workersRole = "nodes." + name
	masters     = "control-plane-a"
)

var (
	lbAddr  = netip.MustParseAddr("10.0.0.250")
	cpAddr  = netip.MustParseAddr("10.0.0.10")
	wkAddr  = netip.MustParseAddr("10.0.0.20")
	nowhere = netip.MustParseAddr("10.0.0.99")
)

const (
	masterPolicy = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"ec2:AttachVolume","Resource":"*"},
		{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::kops-state/atlas.k8s.local/*"},
		{"Effect":"Allow","Action":["ec2:Describe*","kms:CreateGrant","kms:DescribeKey"],"Resource":"*"}]}`
	workerPolicy = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:DescribeInstanceTypes","Resource":"*"}}`
	gossipPolicy = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["ec2:DescribeInstanceTypes","ec2:DescribeInstances"],"Resource":"*"},
		{"Effect":"Allow","Action":"s3:GetObject","Resource":["arn:aws:s3:::kops-state/atlas.k8s.local/cluster-completed.spec","arn:aws:s3:::kops-state/atlas.k8s.local/igconfig/node/*"]},
		{"Effect":"Allow","Action":["s3:GetBucketLocation","s3:ListBucket"],"Resource":"arn:aws:s3:::kops-state"}]}`
)

// healthy returns a None cluster of kOps 1.36 without findings.
func healthy() Input {
	group := func(name string, role cluster.Role, size int) cluster.Group {
		return cluster.Group{Name: name, Role: role, MinSize: size, MaxSize: size}
	}
	target := func(port int) cloud.Listener {
		return cloud.Listener{Port: port, Protocol: "TCP", Check: "TCP", Targets: []cloud.Target{{ID: "i-cp", Health: cloud.TargetHealthy}}}
	}
	rule := func(from, to string, low, high int) cloud.Rule {
		return cloud.Rule{From: from, To: to, Protocol: "tcp", Low: low, High: high}
	}
	return Input{
		Now:     time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC),
		Version: "1.36.2",
		Spec: &cluster.Cluster{
			Name: name, Cloud: cluster.AWS, DNSType: cluster.DNSNone,
			API:    cluster.API{LoadBalancer: &cluster.LoadBalancer{Type: cluster.LoadBalancerInternal, Class: cluster.LoadBalancerNetwork}},
			Groups: []cluster.Group{group(masters, cluster.RoleControlPlane, 3), group(workers, cluster.RoleNode, 2)},
		},
		Cloud: &cloud.Observation{
			Cluster: name, Cloud: cluster.AWS,
			Groups: []cloud.Group{
				{
					Name: masters, Role: cluster.RoleControlPlane, Min: 1, Max: 1, Desired: 1,
					Template: cloud.Template{ID: "lt-cp", Version: "3", Permissions: "masters", Boot: &cloud.BootConfig{
						Cluster: name, Group: masters, Role: cluster.RoleControlPlane, ConfigBase: "s3://kops-state/" + name, ConfigHash: "x", KopsVersion: "1.36.2",
					}},
					Instances: []cloud.Instance{{ID: "i-cp", Addr: cpAddr, State: "running", Generation: cloud.GenerationNew, Version: "3"}},
				},
				{
					Name: workers, Role: cluster.RoleNode, Min: 2, Max: 2, Desired: 2,
					Template: cloud.Template{ID: "lt-nodes", Version: "7", Permissions: workersRole, Boot: byAddress()},
					Instances: []cloud.Instance{
						{ID: "i-1", Addr: wkAddr, State: "running", Generation: cloud.GenerationNew, Version: "7"},
						{ID: "i-2", Addr: wkAddr.Next(), State: "running", Generation: cloud.GenerationNew, Version: "7"},
					},
				},
			},
			LoadBalancers: []cloud.LoadBalancer{{
				Name: "api", Class: "network", Scheme: "internal", Addresses: []netip.Addr{lbAddr},
				Listeners: []cloud.Listener{target(443), target(3988)},
			}},
			Network: cloud.Network{Rules: []cloud.Rule{
				rule(partyWorkers, partyLB, 443, 443), rule(partyWorkers, partyLB, 3988, 3988),
				rule(partyLB, partyControl, 443, 443), rule(partyLB, partyControl, 3988, 3988),
			}},
			Roles: []cloud.Role{
				{Name: "masters", Roles: []cluster.Role{cluster.RoleControlPlane}, Kind: cloud.KindPolicy, Policies: map[string]string{"masters": masterPolicy}},
				{Name: workersRole, Roles: []cluster.Role{cluster.RoleNode}, Kind: cloud.KindPolicy, Policies: map[string]string{workersRole: workerPolicy}},
			},
		},
		Store: &Store{
			NodeConfigs: map[string]NodeConfig{masters: {Hash: "y"}, workers: {Hash: "pinned"}},
			Addons:      []Addon{{Name: "coredns.addons.k8s.io"}, {Name: addonDNS, Empty: true}},
		},
		Probes: &Probes{
			TLSNames: map[string][]string{lbAddr.String() + ":3988": {"kops-controller.internal." + name}},
			Hosts:    map[string]map[string][]netip.Addr{"i-1": {"api.internal." + name: {lbAddr}}},
		},
	}
}

func byAddress() *cloud.BootConfig {
	return &cloud.BootConfig{
		Cluster: name, Group: workers, Role: cluster.RoleNode, CA: "PEM", Servers: []string{"https://" + lbAddr.String() + ":3988/"},
		TLSServerName: "kops-controller.internal." + name, APIServerIPs: []string{lbAddr.String()}, ConfigHash: "pinned", KopsVersion: "1.36.2",
	}
}

func byGossip() *cloud.BootConfig {
	return &cloud.BootConfig{Cluster: name, Group: workers, Role: cluster.RoleNode, ConfigBase: "s3://kops-state/" + name, ConfigHash: "old", KopsVersion: "1.35.2"}
}

// nodes and cps return the group of workers and of the control plane, to modify.
func nodes(in *Input) *cloud.Group { return &in.Cloud.Groups[1] }
func cps(in *Input) *cloud.Group   { return &in.Cloud.Groups[0] }

// gossiping turns the healthy cluster into a gossip cluster of kOps 1.35.
func gossiping(in *Input) {
	in.Version, in.Spec.DNSType = "1.35.2", cluster.DNSPrivate
	nodes(in).Template.Boot = byGossip()
	in.Cloud.Roles[1].Policies = map[string]string{workersRole: gossipPolicy}
	in.Store.Addons = []Addon{{Name: addonDNS}}
	in.Probes.Overlay = map[string][]netip.Addr{"api.internal." + name: {cpAddr}}
	in.Cloud.Network.Rules = append(in.Cloud.Network.Rules,
		cloud.Rule{From: partyWorkers, To: partyControl, Protocol: "tcp", Low: 3999, High: 4000},
		cloud.Rule{From: partyWorkers, To: partyControl, Protocol: "tcp", Low: 443, High: 443},
		cloud.Rule{From: partyWorkers, To: partyControl, Protocol: "tcp", Low: 3988, High: 3988})
}

// hybrid turns the healthy cluster into a hybrid one.
func hybrid(in *Input) {
	in.Spec.DNSType = cluster.DNSPrivate
	in.Store.Addons = []Addon{{Name: addonDNS}}
	in.Probes.Overlay = map[string][]netip.Addr{"api.internal." + name: {cpAddr}}
}

// old turns one worker into a gossiping one of an older generation.
func old(in *Input) {
	nodes(in).Instances[0].Generation, nodes(in).Instances[0].Version = cloud.GenerationOld, "6"
	nodes(in).Instances[0].Boot = byGossip()
}

// ahead edits the spec of a cluster to None, without an update.
func ahead(in *Input) {
	in.Spec.DNSType = cluster.DNSNone
	in.Store.NodeConfigs[masters] = NodeConfig{Hash: "y", Gossip: true}
}
