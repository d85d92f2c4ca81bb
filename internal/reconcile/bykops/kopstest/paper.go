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

// Paper is an AWS on paper: one cluster as an object in a store, for tests that
// carry out hundreds of migrations. A migration, a kops that it runs and machines
// that boot may be processes of their own, each killed at any time: every change
// is one write.
//
// It does what moto does as far as a migration asks: a group that lost an
// instance has started another when the call returns, a target is healthy as long
// as its instance is in the group, a rule goes when its ports do. It is a
// [cloud.Provider], a [Site], and all that package bykops changes.
type Paper struct {
	Store store.Store
}

const paperKey = "paper/aws.json"

// Sheet is what is on it.
type Sheet struct {
	Cluster   string
	Groups    []PaperGroup
	Instances []PaperInstance
	Balancers []PaperBalancer
	Roles     []cloud.Role
	Rules     []cloud.Rule
	Born      int // instances ever
}

// PaperGroup is a group with its launch template.
type PaperGroup struct {
	Name, ID  string
	Role      cluster.Role
	Size      int
	Versions  []string // user data, by version less First
	First     int      // the oldest version that is left
	Balancers []string // names of those in front of it
}

func (g PaperGroup) version() int { return g.First + len(g.Versions) - 1 }

// PaperInstance is an instance.
type PaperInstance struct {
	ID, Group string
	Version   int
	UserData  string // that it was born with: its version may be gone
	Unread    bool   // its version is gone, and nobody can say what it held
	Detached  bool
	Out       bool // taken out of the load balancers
}

// PaperBalancer is a load balancer.
type PaperBalancer struct {
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

// Put writes a new sheet, of a cluster that has no instances yet.
func (p Paper) Put(ctx context.Context, s Sheet) error {
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
	_, err = p.Store.Put(ctx, paperKey, data, store.Absent)
	return err
}

// Read returns what is on it.
func (p Paper) Read(ctx context.Context) (Sheet, error) {
	var s Sheet
	o, err := p.Store.Get(ctx, paperKey)
	if err == nil {
		err = json.Unmarshal(o.Data, &s)
	}
	return s, err
}

// Change changes it.
func (p Paper) Change(ctx context.Context, change func(*Sheet) error) error {
	_, err := store.Update(ctx, p.Store, paperKey, func(old []byte) ([]byte, error) {
		var s Sheet
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
func (p Paper) Resize(ctx context.Context, group string, size int) error {
	return p.Change(ctx, func(s *Sheet) error {
		s.Groups[s.group(group)].Size = size
		s.fill(group)
		return nil
	})
}

// start starts an instance of a group's template of now.
func (s *Sheet) start(g PaperGroup) {
	s.Born++
	s.Instances = append(s.Instances, PaperInstance{ID: fmt.Sprintf("i-%04d", s.Born), Group: g.Name, Version: g.version(), UserData: g.Versions[len(g.Versions)-1]})
}

// fill starts what a group is short of.
func (s *Sheet) fill(name string) {
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

func (s *Sheet) group(name string) int {
	return slices.IndexFunc(s.Groups, func(g PaperGroup) bool { return g.Name == name || g.ID == name })
}

func (s *Sheet) instance(id string) *PaperInstance {
	if at := slices.IndexFunc(s.Instances, func(i PaperInstance) bool { return i.ID == id }); at >= 0 {
		return &s.Instances[at]
	}
	return nil
}

func (s *Sheet) remove(id string) {
	s.Instances = slices.DeleteFunc(s.Instances, func(i PaperInstance) bool { return i.ID == id })
}

// number is an instance's, or version's, place in the order of births.
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
func (p Paper) Seeds(ctx context.Context) (all []netip.Addr, err error) {
	s, err := p.Read(ctx)
	for _, i := range s.Instances {
		if s.Groups[s.group(i.Group)].Role == cluster.RoleControlPlane {
			all = append(all, addr(i.ID))
		}
	}
	return all, err
}

// Observe implements [cloud.Provider].
func (p Paper) Observe(ctx context.Context) (*cloud.Observation, error) {
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

func (s *Sheet) observe(g PaperGroup) (cloud.Group, error) {
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

func roleOf(g PaperGroup, name string) string {
	if g.Role == cluster.RoleControlPlane {
		return "masters." + name
	}
	return "nodes." + name
}

func (s *Sheet) targets(b PaperBalancer, port int) []cloud.Target {
	all := []cloud.Target{} // none is an answer
	for _, i := range s.Instances {
		g := s.Groups[s.group(i.Group)]
		if slices.Contains(g.Balancers, b.Name) && !i.Detached && !i.Out {
			all = append(all, cloud.Target{ID: i.ID, Port: port, Health: cloud.TargetHealthy})
		}
	}
	return all
}
