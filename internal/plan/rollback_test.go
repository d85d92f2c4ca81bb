package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

// Only a deletion has no way back, whatever the endpoints and the executor, with
// bridges or without.
func TestEveryStepBeforeADeletionHasAWayBack(t *testing.T) {
	shapes := map[string]func() *Problem{
		"a network load balancer":          func() *Problem { return gossiping(3, 6) },
		"no load balancer, and one may be": func() *Problem { return with(withoutBalancer(3, 6), func(p *Problem) { p.CreateBalancer = true }) },
		"no load balancer, and a list":     func() *Problem { return with(withoutBalancer(3, 6), func(p *Problem) { p.Endpoints = Addresses }) },
		"a classic one, and a list":        func() *Problem { return withClassic(Kops) },
	}
	for name, make := range shapes {
		for _, via := range Executors() {
			for _, bare := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s via %s, bridges %v", name, via, !bare), func(t *testing.T) {
					pl := mustFind(t, with(make(), func(p *Problem) { p.Via, p.NoBridge = via, bare }))
					if pl.Refused != nil {
						t.Skip("no plan: " + pl.Refused.Why)
					}
					gone := false
					for _, w := range pl.Back {
						gone = gone || pl.Steps[w.After-1].Irreversible
						if (w.None != "") != gone {
							t.Errorf("after %s: back by %v, none because %q", pl.Steps[w.After-1].ID, w.Steps, w.None)
						}
					}
				})
			}
		}
	}
}

// A way back from workers with a list removes muster-agent from the spec before the
// prior templates are rendered, and the control plane gossips before workers do.
func TestTheWayBackFromAListTakesTheAgentOut(t *testing.T) {
	p := with(withoutBalancer(3, 6), func(p *Problem) { p.Endpoints = Addresses })
	pl := mustPlan(t, p)
	for id, want := range map[string]string{
		"add-agent":          "remove-policy remove-agent unset-none",
		"canary":             "remove-agent unset-none restore-workers roll-workers remove-policy",
		"roll-control-plane": "remove-agent unset-none restore-control-plane roll-control-plane restore-workers canary roll-workers",
	} {
		n := slices.Index(ids(pl), id)
		if got := strings.Join(pl.Back[n].Steps, " "); got != want {
			t.Errorf("after %s back by %s, want %s", id, got, want)
		}
	}
	carried := p.origin()
	carried.Agent, carried.Old = true, true
	if missing := p.stepsOf(t, []string{"restore-workers"})[0].ready(p, carried); missing != "the spec is that of before" {
		t.Errorf("with muster-agent in the spec templates are restored; missing is %q", missing)
	}
}

func TestAPlanByKopsWithAListSaysWhoCarriesItOut(t *testing.T) {
	for via, want := range map[Executor]bool{Kops: true, Terraform: false, Lab: false} {
		pl := mustPlan(t, with(withoutBalancer(3, 6), func(p *Problem) { p.Endpoints, p.Via = Addresses, via }))
		if got := strings.Contains(Seal(pl, nil).Text(), "\ntaken for granted: you carry it out, step by step: "); got != want {
			t.Errorf("via %s it is said: %v, want %v", via, got, want)
		}
	}
}

func TestAPlanSaysInOneLineWhyThereIsNoWayBack(t *testing.T) {
	pl := mustPlan(t, with(gossiping(3, 3), func(p *Problem) { p.From, p.To = cluster.Hybrid, cluster.Gossip }).starting(func(s *State) {
		s.Templates, s.Live, s.Config, s.Old = Set(Hybrid), Set(Gossip, Hybrid), true, true
	}))
	text := Seal(pl, nil).Text()
	for _, want := range []string{
		"\nway back: none; what can be restored is gossip; back to hybrid leads a plan of its own\n",
		"\ntaken for granted: the kOps that restores makes gossip of the spec: ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if how := strings.Join(pl.Steps[0].How, "\n"); !strings.Contains(how, "--kops-before: kops update cluster --name atlas.k8s.local") {
		t.Errorf("%s is carried out by %q", pl.Steps[0].ID, how)
	}
}
