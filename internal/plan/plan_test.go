package plan

import (
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
)

// gossiping is a cluster like atlas: AWS, a network load balancer that serves
// people only, everything gossips.
func gossiping(members, workers int) *Problem {
	s := State{
		Members: Members{GossipKnown: uint8(members)}, Templates: Set(Gossip), Live: Set(Gossip),
		Network: true, API: true, Lookup: true, Controller: true, Ports: true,
	}
	p := &Problem{
		Cluster: "atlas.k8s.local", Cloud: cluster.AWS, From: cluster.Gossip, To: cluster.None, Via: Kops, Endpoints: Balancer,
		BalancerAddresses: 3,
		Starts:            []Start{{State: s}},
	}
	for range members {
		p.Groups = append(p.Groups, Group{Name: "control-plane", Role: cluster.RoleControlPlane, Live: map[string]int{"gossip": 1}})
	}
	p.Groups = append(p.Groups, Group{Name: "nodes-us-east-1a", Role: cluster.RoleNode, Live: map[string]int{"gossip": workers}})
	return p
}

func TestScratch(t *testing.T) {
	for _, nobridge := range []bool{false, true} {
		p := gossiping(3, 20)
		p.NoBridge = nobridge
		began := time.Now()
		pl, err := Find(*p)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v %+v %+v %+v", time.Since(began), pl.Cost, pl.Replaced, pl.Certificate)
		for _, d := range pl.Steps {
			t.Logf("%d %s  %d states %v %v", d.Number, d.ID, d.States, d.Effects, d.Cost)
		}
		for _, b := range pl.Back {
			t.Logf("%+v", b)
		}
	}
	p := gossiping(3, 20)
	nolb := gossiping(1, 2)
	nolb.Starts[0].State.Network, nolb.Starts[0].State.API = false, false
	show := func(name string, p *Problem, steps []Step) {
		t.Log("==", name)
		for _, v := range p.check(steps) {
			t.Logf("%s %s step %d", v.Invariant, v.Class, v.Step)
			for _, l := range v.Story {
				t.Log("     ", l)
			}
		}
	}
	show("two reconciles", p, append(append(p.kopsReconcile(), p.setTopology()), p.kopsReconcile()...))
	show("direct", p, append([]Step{p.setTopology()}, p.kopsReconcile()...))
	show("empty", nolb, []Step{nolb.setTopology(), nolb.kopsUpdate(true)})
	show("tf", nolb, []Step{nolb.setTopology(), nolb.terraformFirstPass()})
	show("cp first", p, []Step{p.setTopology(), p.updateControlPlane(), p.rollControlPlane()})
	pl, err := Find(*nolb)
	t.Logf("%v %+v", err, pl.Refused)
	nolb.Endpoints = Addresses
	pl, err = Find(*nolb)
	t.Logf("%v %+v", err, pl.Refused)
	for _, d := range pl.Steps {
		t.Logf("%d %s  %d states %v %v", d.Number, d.ID, d.States, d.Effects, d.Cost)
	}
}
