package plan

import (
	"fmt"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

// gossiping is a cluster on AWS with a network load balancer that serves people
// only; every node gossips, and workers have the broad role.
func gossiping(members, workers int) *Problem {
	p := &Problem{
		Cluster: "atlas.k8s.local", Cloud: cluster.AWS, From: cluster.Gossip, To: cluster.None, Via: Kops, Endpoints: Balancer,
		BalancerAddresses: 3,
		Starts: []Start{{State: State{
			Members: Members{GossipKnown: uint8(members)}, Templates: Set(Gossip), Live: Set(Gossip),
			Network: true, API: true, Lookup: true, Controller: true, Ports: true,
		}}},
	}
	for i := range members {
		p.Groups = append(p.Groups, Group{Name: fmt.Sprintf("control-plane-%c", 'a'+i), Role: cluster.RoleControlPlane, Live: map[string]int{"gossip": 1}})
	}
	p.Groups = append(p.Groups, Group{Name: "nodes-a", Role: cluster.RoleNode, Live: map[string]int{"gossip": workers}})
	return p
}

// withoutBalancer is the same with nothing in front of the API.
func withoutBalancer(members, workers int) *Problem {
	p := gossiping(members, workers)
	p.BalancerAddresses = 0
	p.Starts[0].State.Network, p.Starts[0].State.API = false, false
	return p
}

// withClassic is a cluster that people reach through a classic load balancer, and
// whose workers are to get a list of endpoints.
func withClassic(via Executor) *Problem {
	p := withoutBalancer(3, 20).starting(func(s *State) { s.Classic = true })
	p.Via, p.Endpoints, p.CreateBalancer = via, Addresses, true
	return p
}

// starting returns p with its first start changed.
func (p *Problem) starting(change func(s *State)) *Problem {
	change(&p.Starts[0].State)
	return p
}

func mustFind(t testing.TB, p *Problem) Plan {
	t.Helper()
	pl, err := Find(t.Context(), *p)
	if err != nil {
		t.Fatal(err)
	}
	return pl
}

func mustPlan(t testing.TB, p *Problem) Plan {
	t.Helper()
	pl := mustFind(t, p)
	if pl.Refused != nil {
		t.Fatalf("refused: %s\n%s %q", pl.Refused.Why, pl.Refused.Invariant, pl.Refused.Story)
	}
	return pl
}

func ids(pl Plan) (all []string) {
	for _, s := range pl.Steps {
		all = append(all, s.ID)
	}
	return all
}

// stepsOf returns the steps of a plan, for the test to modify.
func (p *Problem) stepsOf(t testing.TB, ids []string) (steps []Step) {
	t.Helper()
	for _, id := range ids {
		found := false
		for _, s := range p.steps() {
			if s.ID == id {
				steps, found = append(steps, s), true
			}
		}
		if !found {
			t.Fatalf("no step %q", id)
		}
	}
	return steps
}

func mustCheck(t testing.TB, p *Problem, steps []Step) []Violation {
	t.Helper()
	all, err := p.check(t.Context(), steps)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
