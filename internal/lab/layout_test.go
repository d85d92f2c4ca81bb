package lab

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/node"
)

var testNetwork = netip.MustParsePrefix("127.90.0.0/16")

func spec(balanced bool, groups ...cluster.Group) *cluster.Cluster {
	c := &cluster.Cluster{Name: "tiny.k8s.local", Groups: groups}
	if balanced {
		c.API.LoadBalancer = &cluster.LoadBalancer{}
	}
	return c
}

func group(name string, role cluster.Role, size int) cluster.Group {
	return cluster.Group{Name: name, Role: role, MinSize: size, MaxSize: size}
}

func TestLayoutNamesAndAddresses(t *testing.T) {
	l, err := NewLayout(spec(true,
		group("nodes", cluster.RoleNode, 2),
		group("bastions", cluster.RoleBastion, 3),
		group("cp", cluster.RoleControlPlane, 1),
		group("none", cluster.RoleNode, 0),
		group("gpu", cluster.RoleNode, 1),
	), testNetwork)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range l.Nodes {
		got = append(got, string(n.Role)+" "+n.Group+" "+n.Name+" "+n.Addr.String())
	}
	want := []string{
		"control-plane cp cp 127.90.1.1",
		"worker nodes nodes-1 127.90.2.1",
		"worker nodes nodes-2 127.90.2.2",
		"worker gpu gpu 127.90.2.3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"nodes", "gpu"}, l.Groups(identity.Worker)); diff != "" {
		t.Errorf("worker groups (-want +got):\n%s", diff)
	}
	if got, want := l.LoadBalancer, netip.MustParseAddr("127.90.3.1"); got != want {
		t.Errorf("load balancer at %v, want %v", got, want)
	}
}

func TestLayoutSizes(t *testing.T) {
	for _, tt := range []struct {
		name        string
		cps, worker int
		balanced    bool
		fault       string
	}{
		{"the smallest cluster fits", 1, 1, false, ""},
		{"250 nodes of each role fit", 250, 250, true, ""},
		{"251 workers are refused", 3, 251, true, "more than 250 nodes of role Node"},
		{"251 control-plane nodes are refused", 251, 1, true, "more than 250 nodes of role ControlPlane"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := NewLayout(spec(tt.balanced, group("cp", cluster.RoleControlPlane, tt.cps),
				group("a", cluster.RoleNode, tt.worker/2), group("b", cluster.RoleNode, tt.worker-tt.worker/2)), testNetwork)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Fatalf("error %v, want %q in it", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(l.ControlPlane()) != tt.cps || len(l.Workers()) != tt.worker {
				t.Errorf("%d + %d nodes, want %d + %d", len(l.ControlPlane()), len(l.Workers()), tt.cps, tt.worker)
			}
			if l.LoadBalancer.IsValid() != tt.balanced {
				t.Errorf("load balancer at %v, want one: %v", l.LoadBalancer, tt.balanced)
			}
			names := make(map[string]bool)
			addrs := map[netip.Addr]bool{l.nextFree: true}
			if tt.balanced {
				addrs[l.LoadBalancer] = true
			}
			for _, n := range l.Nodes {
				if names[n.Name] || addrs[n.Addr] {
					t.Errorf("%s at %s: name or address stands twice", n.Name, n.Addr)
				}
				names[n.Name], addrs[n.Addr] = true, true
			}
			for a := range addrs {
				if !a.Is4() || !testNetwork.Contains(a) {
					t.Errorf("%v is no IPv4 address of %v", a, testNetwork)
				}
			}
		})
	}
}

func TestServicesOfANode(t *testing.T) {
	for _, tt := range []struct {
		name         string
		balanced     bool
		worker       bool
		program      Program
		setDiscovery bool

		publishAPI, publishController bool
		balancers, addresses          int
	}{
		{name: "a worker's peer is told nothing but gossip", balanced: true, worker: true, program: Peer},
		{name: "a worker's agent has balancer and list", balanced: true, worker: true, program: Agent, balancers: 1, addresses: 2},
		{name: "without a balancer the list is all", worker: true, program: Agent, addresses: 2},
		{name: "a control-plane node publishes its API", balanced: true, program: Peer, publishAPI: true},
		{name: "and the worker-facing service once it serves it", balanced: true, program: Peer, setDiscovery: true, publishAPI: true, publishController: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := NewLayout(spec(tt.balanced, group("cp", cluster.RoleControlPlane, 2), group("w", cluster.RoleNode, 1)), testNetwork)
			if err != nil {
				t.Fatal(err)
			}
			n := l.ControlPlane()[0]
			if tt.worker {
				n = l.Workers()[0]
			}
			services := l.services(n, tt.program, tt.setDiscovery)
			for i, want := range []struct {
				publish bool
				port    uint16
			}{{tt.publishAPI, APIPort}, {tt.publishController, node.DiscoveryPort}} {
				s := services[i]
				if s.Publish.IsValid() != want.publish || want.publish && s.Publish.AddrPort != netip.AddrPortFrom(n.Addr, want.port) {
					t.Errorf("%s: publishes %v, want %v at port %d", s.Name, s.Publish, want.publish, want.port)
				}
				if len(s.LoadBalancer) != tt.balancers || len(s.Addresses) != tt.addresses {
					t.Errorf("%s: %v, %v; want %d, %d", s.Name, s.LoadBalancer, s.Addresses, tt.balancers, tt.addresses)
				}
				for _, a := range s.Addresses {
					if a.Port() != want.port {
						t.Errorf("%s: address %v, want port %d", s.Name, a, want.port)
					}
				}
			}
		})
	}
}
