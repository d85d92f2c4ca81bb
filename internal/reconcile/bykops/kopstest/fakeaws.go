package kopstest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
)

// FakeAWS is a fake AWS with one cluster, kept as an object in a store, for tests that
// carry out hundreds of migrations. A migration, a kops that it runs and machines
// that boot may be processes of their own, each killed at any time: every change
// is one write.
//
// It does what moto does as far as a migration asks: a group that lost an
// instance has started another when the call returns, a target is healthy as long
// as its instance is in the group, a rule goes when its ports do. It is a
// [cloud.Provider], a [Site], and all that package bykops changes.
type FakeAWS struct {
	Store store.Store
}

const fakeAWSKey = "paper/aws.json"

// FakeState is the state of a [FakeAWS].
type FakeState struct {
	Cluster   string
	Groups    []FakeGroup
	Instances []FakeInstance
	Balancers []FakeBalancer
	Roles     []cloud.Role
	Rules     []cloud.Rule
	Born      int // instances ever
}

// FakeGroup is a group with its launch template.
type FakeGroup struct {
	Name, ID  string
	Role      cluster.Role
	Size      int
	Versions  []string // user data, by version less First
	First     int      // the oldest version that is left
	Balancers []string // names of those in front of it
}

func (g FakeGroup) version() int { return g.First + len(g.Versions) - 1 }

// FakeInstance is an instance.
type FakeInstance struct {
	ID, Group string
	Version   int
	UserData  string // that it was born with: its version may be gone
	Unread    bool   // its version is gone, and nobody can say what it held
	Detached  bool
	Out       bool // taken out of the load balancers
}

// FakeBalancer is a load balancer.
type FakeBalancer struct {
	Name, Class string
	Ports       []int
	Addrs       []netip.Addr
}

// workersRules are kOps's rules from workers to the control plane, beside etcd's.
var workersRules = []cloud.Rule{
	{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 1, High: 2379},
	{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 2382, High: 4000},
	{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 4003, High: 65535},
	{From: cloud.PartyWorkers, To: cloud.PartyControlPlane, Protocol: "udp", Low: 1, High: 65535},
}

// Put writes the state of a cluster that has no instances yet.
func (p FakeAWS) Put(ctx context.Context, s FakeState) error {
	s.Rules = append(s.Rules,
		cloud.Rule{From: cloud.PartyWorkers, To: cloud.PartyLoadBalancer, Protocol: "all", High: 65535},
		cloud.Rule{From: cloud.PartyControlPlane, To: cloud.PartyWorkers, Protocol: "all", High: 65535},
		cloud.Rule{From: cloud.PartyControlPlane, To: cloud.PartyControlPlane, Protocol: "all", High: 65535},
		cloud.Rule{From: cloud.PartyLoadBalancer, To: cloud.PartyControlPlane, Protocol: "tcp", Low: 443, High: 443})
	s.Rules = append(s.Rules, workersRules...)
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = p.Store.Put(ctx, fakeAWSKey, data, store.Absent)
	return err
}

// Read returns the current state.
func (p FakeAWS) Read(ctx context.Context) (FakeState, error) {
	var s FakeState
	o, err := p.Store.Get(ctx, fakeAWSKey)
	if err == nil {
		err = json.Unmarshal(o.Data, &s)
	}
	return s, err
}

// Change changes the state in one write.
func (p FakeAWS) Change(ctx context.Context, change func(*FakeState) error) error {
	_, err := store.Update(ctx, p.Store, fakeAWSKey, func(old []byte) ([]byte, error) {
		var s FakeState
		if err := json.Unmarshal(old, &s); err != nil {
			return nil, err
		}
		if err := change(&s); err != nil {
			return nil, err
		}
		return json.Marshal(s)
	})
	return err
}

// Resize makes a group larger.
func (p FakeAWS) Resize(ctx context.Context, group string, size int) error {
	return p.Change(ctx, func(s *FakeState) error {
		s.Groups[s.group(group)].Size = size
		s.fill(group)
		return nil
	})
}

// start starts an instance from a group's current template.
func (s *FakeState) start(g FakeGroup) {
	s.Born++
	s.Instances = append(s.Instances, FakeInstance{ID: fmt.Sprintf("i-%04d", s.Born), Group: g.Name, Version: g.version(), UserData: g.Versions[len(g.Versions)-1]})
}

// fill starts instances up to a group's size.
func (s *FakeState) fill(name string) {
	g := &s.Groups[s.group(name)]
	n := 0
	for _, i := range s.Instances {
		if i.Group == name && !i.Detached {
			n++
		}
	}
	for ; n < g.Size; n++ {
		s.start(*g)
	}
}

func (s *FakeState) group(name string) int {
	return slices.IndexFunc(s.Groups, func(g FakeGroup) bool { return g.Name == name || g.ID == name })
}

func (s *FakeState) instance(id string) *FakeInstance {
	if at := slices.IndexFunc(s.Instances, func(i FakeInstance) bool { return i.ID == id }); at >= 0 {
		return &s.Instances[at]
	}
	return nil
}

func (s *FakeState) remove(id string) {
	s.Instances = slices.DeleteFunc(s.Instances, func(i FakeInstance) bool { return i.ID == id })
}

// number returns the sequence number in an instance's or version's ID.
func number(id string) int {
	n, _ := strconv.Atoi(id[len("i-"):]) // start made it
	return n
}

// addr is the address of an instance.
func addr(id string) netip.Addr {
	n := number(id)
	return netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)})
}

// Seeds implements [cloud.Provider].
func (p FakeAWS) Seeds(ctx context.Context) (all []netip.Addr, err error) {
	s, err := p.Read(ctx)
	for _, i := range s.Instances {
		if s.Groups[s.group(i.Group)].Role == cluster.RoleControlPlane {
			all = append(all, addr(i.ID))
		}
	}
	return all, err
}

// Observe implements [cloud.Provider].
func (p FakeAWS) Observe(ctx context.Context) (*cloud.Observation, error) {
	s, err := p.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the paper: %w: %w", cloud.ErrTransient, err)
	}
	o := &cloud.Observation{Cluster: s.Cluster, Cloud: cluster.AWS, Roles: s.Roles, Network: cloud.Network{Rules: s.Rules}}
	for _, g := range s.Groups {
		seen, err := s.observe(g)
		if err != nil {
			return nil, err
		}
		o.Groups = append(o.Groups, seen)
	}
	for _, b := range s.Balancers {
		lb := cloud.LoadBalancer{ID: "arn:" + b.Name, Name: b.Name, Class: b.Class, Scheme: "public", DNSName: b.Name + ".example.net", Addresses: b.Addrs}
		for _, port := range b.Ports {
			lb.Listeners = append(lb.Listeners, cloud.Listener{Port: port, Protocol: "TCP", Check: "TCP", Targets: s.targets(b, port)})
		}
		o.LoadBalancers = append(o.LoadBalancers, lb)
	}
	return o, nil
}

func (s *FakeState) observe(g FakeGroup) (cloud.Group, error) {
	now := g.Versions[len(g.Versions)-1]
	boot, err := bootconfig.Parse([]byte(now))
	if err != nil {
		return cloud.Group{}, err
	}
	seen := cloud.Group{
		Name: g.Name, ID: g.ID, Role: g.Role, Min: g.Size, Max: g.Size, Desired: g.Size, Zones: []string{"us-east-1a"},
		Template: cloud.Template{
			ID: "lt-" + g.Name, Version: strconv.Itoa(g.version()), Hash: bootconfig.Hash([]byte(now)), Boot: boot,
			Permissions: roleOf(g, s.Cluster), Older: len(g.Versions) - 1,
		},
	}
	for _, i := range s.Instances {
		if i.Group != g.Name {
			continue
		}
		have := cloud.Instance{ID: i.ID, Addr: addr(i.ID), Zone: "us-east-1a", State: "running", Generation: cloud.GenerationNew, Version: strconv.Itoa(i.Version), Detached: i.Detached}
		if i.Unread {
			have.Generation, have.Version = cloud.GenerationUnknown, ""
		} else if i.UserData != now {
			have.Generation = cloud.GenerationOld
			if have.Boot, err = bootconfig.Parse([]byte(i.UserData)); err != nil {
				return seen, err
			}
		}
		seen.Instances = append(seen.Instances, have)
	}
	return seen, nil
}

func roleOf(g FakeGroup, name string) string {
	if g.Role == cluster.RoleControlPlane {
		return "masters." + name
	}
	return "nodes." + name
}

func (s *FakeState) targets(b FakeBalancer, port int) []cloud.Target {
	all := []cloud.Target{} // none is an answer
	for _, i := range s.Instances {
		g := s.Groups[s.group(i.Group)]
		if slices.Contains(g.Balancers, b.Name) && !i.Detached && !i.Out {
			all = append(all, cloud.Target{ID: i.ID, Port: port, Health: cloud.TargetHealthy})
		}
	}
	return all
}
