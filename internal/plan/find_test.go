package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cluster"
)

func TestWithBridgesEachWorkerIsReplacedOnce(t *testing.T) {
	pl := mustPlan(t, gossiping(3, 20))
	want := []string{
		"expose", "prove", "publish", "add-policy", "set-none", "update-workers", "canary", "roll-workers",
		"withdraw", "remove-policy", "update-control-plane", "roll-control-plane", "remove-dns-controller", "close-ports", "scrub",
	}
	if diff := cmp.Diff(want, ids(pl)); diff != "" {
		t.Errorf("steps differ (-want +got):\n%s", diff)
	}
	if want := (Replacements{MaxPerWorker: 1, Workers: 20, ControlPlane: 3, Total: 23}); pl.Replaced != want {
		t.Errorf("replaced %+v, want %+v", pl.Replaced, want)
	}
	if got := pl.Certificate.WorstMargin; got != 1 {
		t.Errorf("worst margin %d, want 1", got)
	}
	if diff := cmp.Diff(Invariants(), pl.Certificate.Invariants); diff != "" {
		t.Errorf("the certificate does not name every invariant:\n%s", diff)
	}
	if pl.Certificate.States < 1000 {
		t.Errorf("proven in %d states; that cannot be all", pl.Certificate.States)
	}
}

func TestWithoutBridgesWorkersAreReplacedTwice(t *testing.T) {
	p := gossiping(3, 20)
	p.NoBridge = true
	pl := mustPlan(t, p)
	want := []string{
		"expose", "prove", "update-workers-held", "canary", "roll-workers", "set-none", "update-workers", "canary", "roll-workers",
		"update-control-plane", "roll-control-plane", "remove-dns-controller", "close-ports", "scrub",
	}
	if diff := cmp.Diff(want, ids(pl)); diff != "" {
		t.Errorf("steps differ (-want +got):\n%s", diff)
	}
	if pl.Replaced.MaxPerWorker != 2 || pl.Replaced.Workers != 40 {
		t.Errorf("replaced %+v, want each of 20 workers twice", pl.Replaced)
	}
}

func TestPlans(t *testing.T) {
	for name, test := range map[string]struct {
		problem *Problem
		want    string // steps, or "refused: " and the beginning of the reason
	}{
		"hybrid needs a worker replaced once and leaves the control plane alone": {
			problem: with(gossiping(3, 3), func(p *Problem) { p.To = cluster.Hybrid }),
			want:    "expose prove add-policy update-workers canary roll-workers remove-policy",
		},
		"from hybrid to none no bridge is needed": {
			problem: with(gossiping(3, 3), func(p *Problem) { p.From = cluster.Hybrid }).starting(func(s *State) {
				s.Templates, s.Live, s.Lookup, s.Config = Set(Hybrid), Set(Hybrid), false, true
			}),
			want: "prove set-none update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller close-ports scrub",
		},
		"a cluster that is where it should be needs nothing": {
			problem: gossiping(3, 3).starting(func(s *State) {
				*s = State{None: true, Quiet: true, Members: Members{QuietKnown: 3}, Templates: Set(None), Live: Set(None), Network: true, API: true, Config: true}
			}),
			want: "",
		},
		"templates without any address are repaired before anything else": {
			problem: gossiping(3, 3).starting(func(s *State) {
				s.Templates, s.Lookup, s.Config = Set(Unresolved), false, true
			}),
			want: "prove publish set-none update-workers canary roll-workers withdraw update-control-plane roll-control-plane remove-dns-controller close-ports scrub",
		},
		"a classic load balancer gets a network one beside it": {
			problem: with(withoutBalancer(3, 2), func(p *Problem) { p.CreateBalancer = true }).starting(func(s *State) { s.Classic = true }),
			want:    "make-balancer expose prove publish add-policy set-none update-workers canary roll-workers withdraw remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports drop-classic scrub",
		},
		"no load balancer and none to be made is refused": {
			problem: withoutBalancer(3, 2),
			want:    "refused: there is no load balancer that could serve nodes, and none may be made",
		},
		"no load balancer and a list of addresses is a plan, even with one control-plane node": {
			problem: with(withoutBalancer(1, 2), func(p *Problem) { p.Endpoints = Addresses }),
			want:    "hold-addresses serve prove add-policy set-none add-agent update-workers canary roll-workers remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports scrub",
		},
		"a list beside a classic load balancer gives people another before the classic one goes": {
			problem: withClassic(Kops),
			want:    "make-balancer hold-addresses serve prove add-policy set-none add-agent update-workers canary roll-workers remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports drop-classic scrub",
		},
		"a list beside a classic load balancer is refused where no other may be made": {
			problem: with(withClassic(Kops), func(p *Problem) { p.CreateBalancer = false }),
			want:    "refused: the API's load balancer is a classic one, with which kOps refuses None, and no other may be made",
		},
		"a list in a lab leaves people the classic load balancer": {
			problem: withClassic(Lab),
			want:    "hold-addresses serve prove set-none add-agent update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller narrow close-ports scrub",
		},
		"one control-plane node and a load balancer is a plan": {
			problem: gossiping(1, 2),
			want:    "expose prove publish add-policy set-none update-workers canary roll-workers withdraw remove-policy update-control-plane roll-control-plane remove-dns-controller close-ports scrub",
		},
		"Terraform applies target by target and needs no bridge": {
			problem: with(gossiping(3, 3), func(p *Problem) { p.Via = Terraform }),
			want:    "expose prove set-none update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller narrow close-ports scrub",
		},
		"the lab does what it is told and needs no bridge": {
			problem: with(gossiping(3, 3), func(p *Problem) { p.Via = Lab }),
			want:    "expose prove set-none update-workers canary roll-workers update-control-plane roll-control-plane remove-dns-controller narrow close-ports scrub",
		},
		"hybrid with a list is for the lab": {
			problem: with(withoutBalancer(3, 3), func(p *Problem) { p.To, p.Endpoints, p.Via = cluster.Hybrid, Addresses, Lab }),
			want:    "hold-addresses serve prove add-agent update-workers canary roll-workers narrow",
		},
		"back from hybrid to gossip": {
			problem: with(gossiping(3, 3), func(p *Problem) { p.From, p.To, p.Endpoints = cluster.Hybrid, cluster.Gossip, Balancer }).starting(func(s *State) {
				s.Templates, s.Live, s.Lookup, s.Config, s.Old = Set(Hybrid), Set(Hybrid), false, true, true
			}),
			want: "refused: gossip would let workers do more in the cloud than they may now",
		},
		"half-way to hybrid the way back to gossip is open": {
			problem: with(gossiping(3, 3), func(p *Problem) { p.To = cluster.Gossip }).starting(func(s *State) {
				s.Templates, s.Live, s.Config, s.Old = Set(Hybrid), Set(Gossip, Hybrid), true, true
			}),
			want: "restore-workers roll-workers",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pl := mustFind(t, test.problem)
			got := strings.Join(ids(pl), " ")
			if pl.Refused != nil {
				got = "refused: " + pl.Refused.Why
			}
			if got != test.want && !(strings.HasPrefix(test.want, "refused: ") && strings.HasPrefix(got, test.want)) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func with(p *Problem, change func(p *Problem)) *Problem {
	change(p)
	return p
}

func TestAPlanSaysThatTheClassicLoadBalancerStays(t *testing.T) {
	const stays = "taken for granted: people keep the classic load balancer: they have no other address of the API\n"
	for via, want := range map[Executor]bool{Kops: false, Terraform: false, Lab: true} {
		text := Seal(mustPlan(t, withClassic(via)), nil).Text()
		if got := strings.Contains(text, stays); got != want {
			t.Errorf("via %s it is said: %v, want %v:\n%s", via, got, want, text)
		}
	}
}

// That people lost their address while a plan ran does not keep nodes from going
// back.
func TestALostLoadBalancerLeavesTheWayBack(t *testing.T) {
	pl := mustPlan(t, withClassic(Kops))
	n := slices.Index(ids(pl), "add-policy") + 1
	now, _ := carriedOut(t, pl, n)
	now.Classic, now.API = false, false
	way, err := pl.Rollback(t.Context(), []State{now}, n, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(way.Excused, People.String()) {
		t.Errorf("excused %q; want it said that people have no address", way.Excused)
	}
}

func TestExcusedViolationsAreDescribed(t *testing.T) {
	pl := mustPlan(t, gossiping(3, 3).starting(func(s *State) { s.Templates, s.Lookup, s.Config = Set(Unresolved), false, true }))
	want := "boot: an unresolved worker cannot join: it asks for its configuration under a name that nothing resolves"
	if !slices.Contains(pl.Certificate.Excused, want) {
		t.Errorf("excused %q, want %q among them", pl.Certificate.Excused, want)
	}
}

func TestAgainReturnsTheCommandForTheSamePlan(t *testing.T) {
	for name, test := range map[string]struct {
		problem *Problem
		want    string
	}{
		"as it is by default":        {gossiping(3, 3), "muster plan cluster atlas --state s3://x --to none -o plan.yaml"},
		"with all that was asked":    {&Problem{To: cluster.Hybrid, Via: Terraform, Endpoints: Addresses, NoBridge: true, MaxAway: 3}, "muster plan cluster atlas --state s3://x --to hybrid --via terraform --endpoints list --no-bridge --max-away 3 -o plan.yaml"},
		"of a lab from its manifest": {withVia(gossiping(3, 3), Lab), "muster plan -f MANIFEST --to none --via lab -o plan.yaml"},
	} {
		if got := test.problem.Again("atlas --state s3://x"); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestARefusalTellsWhereTheDirectWayLosesANode(t *testing.T) {
	r := mustFind(t, withoutBalancer(3, 2)).Refused
	if r == nil {
		t.Fatal("not refused")
	}
	if r.Invariant != "boot" {
		t.Errorf("invariant %q, want boot", r.Invariant)
	}
	last := r.Story[len(r.Story)-1]
	if want := "under a name that nothing resolves -> it never joins"; !strings.HasSuffix(last, want) {
		t.Errorf("the story ends %q, want %q", last, want)
	}
}

func TestWhatWasNotObservedIsExploredBothWays(t *testing.T) {
	p := gossiping(3, 3)
	healthy, dead := p.Starts[0].State, p.Starts[0].State
	dead.API = false
	p.Starts = []Start{
		{State: healthy, Assumes: []string{"the API answers through the load balancer"}},
		{State: dead, Assumes: []string{"the API does not answer through the load balancer"}},
	}
	pl := mustPlan(t, p)
	if ids(pl)[0] != "expose" {
		t.Errorf("steps %q; want the plan to begin with the gate that settles it", ids(pl))
	}

	// Where no gate stands before the difference, it decides.
	p = gossiping(3, 3)
	seen, gone := p.Starts[0].State, p.Starts[0].State
	gone.Controller = false
	seen.Lookup, gone.Lookup = true, true
	seen.Network, seen.API = true, true
	gone.Network, gone.API = false, false
	p.Starts = []Start{{State: seen, Assumes: []string{"there is a network load balancer"}}, {State: gone, Assumes: []string{"there is none"}}}
	pl = mustFind(t, p)
	if pl.Refused != nil && !slices.Contains(pl.Refused.Settle, "there is a network load balancer") {
		t.Errorf("refused without naming what would settle it: %+v", pl.Refused)
	}
}

func TestEveryWayBackEndsInTheInitialState(t *testing.T) {
	p := gossiping(3, 20)
	pl := mustPlan(t, p)
	if len(pl.Back) != len(pl.Steps) {
		t.Fatalf("%d ways back for %d steps", len(pl.Back), len(pl.Steps))
	}
	for i, b := range pl.Back {
		last := i == len(pl.Back)-1
		if (b.None != "") != last {
			t.Errorf("after step %d (%s): none %q; want only scrub to have no way back", i+1, pl.Steps[i].ID, b.None)
			continue
		}
		if last {
			continue
		}
		all := append(ids(pl)[:i+1:i+1], b.Steps...)
		steps := p.stepsOf(t, all)
		if v := mustCheck(t, p, steps); len(v) > 0 {
			t.Errorf("after step %d the way back %q violates %+v", i+1, b.Steps, v[0])
		}
		w := p.walk(t.Context(), steps, true)
		if !restored(p.origin(), w.end.runs[0].nominal) {
			t.Errorf("after step %d the way back %q ends in %+v", i+1, b.Steps, w.end.runs[0].nominal)
		}
	}
}

func TestMoreWorkersMakeNoMoreStates(t *testing.T) {
	few, many := mustPlan(t, gossiping(3, 2)), mustPlan(t, gossiping(3, 5000))
	if few.Certificate.States != many.Certificate.States {
		t.Errorf("%d states with 2 workers, %d with 5000", few.Certificate.States, many.Certificate.States)
	}
	if diff := cmp.Diff(ids(few), ids(many)); diff != "" {
		t.Errorf("other steps:\n%s", diff)
	}
}

func TestMaxAwayShortensTheRoll(t *testing.T) {
	one := mustPlan(t, gossiping(3, 20))
	five := mustPlan(t, with(gossiping(3, 20), func(p *Problem) { p.MaxAway = 5 }))
	if one.Cost.Minutes-five.Cost.Minutes != 16*minutesPerWorker {
		t.Errorf("%d minutes one at a time, %d five at a time; want 16 turns less", one.Cost.Minutes, five.Cost.Minutes)
	}
}
