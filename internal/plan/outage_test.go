package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
)

func classicByKops() *Problem {
	return with(withClassic(Kops), func(p *Problem) { p.Endpoints = Balancer })
}

// kOps detaches the classic load balancer's targets before the network one has any.
func TestAPlanByKopsHoldsAndAnnouncesTheOutageOfReplacingTheLoadBalancer(t *testing.T) {
	for via, want := range map[Executor]bool{Kops: true, Terraform: false} {
		pl := mustPlan(t, with(classicByKops(), func(p *Problem) { p.Via = via }))
		step := pl.Steps[0]
		text := Seal(pl, nil).Text()
		if step.ID != "make-balancer" || step.Hold != want || strings.Contains(text, "\nannounce: step 1: ") != want || len(pl.Certificate.Outages) > 0 != want {
			t.Errorf("via %s: %+v\n%s", via, step, text)
		}
	}
}

// The counterexample of the same plan without the announcement.
func TestTheClassicLoadBalancerLosesItsTargetsBeforeThereIsAnother(t *testing.T) {
	p := classicByKops()
	steps := p.stepsOf(t, ids(mustPlan(t, p)))
	steps[0].Outage = ""
	all := mustCheck(t, p, steps)
	i := slices.IndexFunc(all, func(v Violation) bool { return v.Invariant == People.String() })
	if i < 0 {
		t.Fatalf("not found among %+v", all)
	}
	want := Violation{Invariant: "people", Step: 1, Story: []string{
		"kOps takes the targets from the classic load balancer",
		"no load balancer serves the API any more -> kubectl has no address of it, yours included",
	}}
	if diff := cmp.Diff(want, all[i]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without an announcement there is no order at all: the search finds no way around
// it.
func TestNoOrderAvoidsTheOutageThatKopsCauses(t *testing.T) {
	p := classicByKops()
	steps := p.forwardSteps()
	for i := range steps {
		steps[i].Outage = ""
	}
	s := &searcher{p: p, steps: steps, explorer: newExplorer(t.Context(), p)}
	if n, err := s.search(s.root(p.Starts), p.reached); err != nil || n != nil {
		t.Errorf("a plan of %d steps, %v", len(n.path()), err)
	}
}

// An outage that outlasts its step was not announced.
func TestAnAnnouncedOutageEndsWithItsStep(t *testing.T) {
	p := classicByKops()
	steps := p.stepsOf(t, ids(mustPlan(t, p)))
	steps[0].phases = steps[0].phases[:2] // the API never answers
	v := mustCheck(t, p, ungate(steps))
	if len(v) == 0 || v[0].Invariant != People.String() || v[0].Step != 1 || len(v[0].Story) < 2 {
		t.Errorf("got %+v, want that people are left without at the end of step 1", v)
	}
}

func TestAClassicLoadBalancerWithoutTargetsServesNobody(t *testing.T) {
	for name, tt := range map[string]struct {
		targets []cloud.Target
		want    bool
	}{
		"with one that answers":             {[]cloud.Target{{ID: "i-1", Health: cloud.TargetHealthy}}, true},
		"with one that does not answer now": {[]cloud.Target{{ID: "i-1", Health: cloud.TargetUnhealthy}}, true},
		"with none":                         {[]cloud.Target{}, false},
		"where nobody could look":           {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := readSample(t, "gossip-1.35-classic-lb")
			c, r := s.spec(t)
			o := s.observation(t)
			for i := range o.LoadBalancers {
				o.LoadBalancers[i].Listeners = []cloud.Listener{{Port: 443, Targets: tt.targets}}
			}
			p, err := FromObservation(c, r, s.stored(), o, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := p.origin(); !got.Classic || got.servesPeople() != tt.want {
				t.Errorf("people are served: %v, want %v, by %s", got.servesPeople(), tt.want, got)
			}
		})
	}
}
