package plan

import (
	"fmt"
	"slices"
	"testing"
)

// Each invariant has seeded bugs: it must reject the proven plan once one thing is
// taken out of the model. A checker that accepts these would accept anything.
func TestEveryInvariantCatchesASeededBug(t *testing.T) {
	drop := func(id string) func(*testing.T, *Problem, []Step) []Step {
		return func(t *testing.T, _ *Problem, steps []Step) []Step {
			i := slices.IndexFunc(steps, func(s Step) bool { return s.ID == id })
			if i < 0 {
				t.Fatalf("no step %q to drop", id)
			}
			return slices.Delete(steps, i, i+1)
		}
	}
	// dropEffect keeps the step but removes one of its phases.
	dropEffect := func(id string, phase int) func(*testing.T, *Problem, []Step) []Step {
		return func(t *testing.T, _ *Problem, steps []Step) []Step {
			i := slices.IndexFunc(steps, func(s Step) bool { return s.ID == id })
			steps[i].phases = slices.Delete(slices.Clone(steps[i].phases), phase, phase+1)
			return steps
		}
	}
	early := func(id string) func(*testing.T, *Problem, []Step) []Step {
		return func(t *testing.T, _ *Problem, steps []Step) []Step {
			i := slices.IndexFunc(steps, func(s Step) bool { return s.ID == id })
			moved := steps[i]
			moved.needs = nil // its precondition would stop it
			return slices.Insert(slices.Delete(steps, i, i+1), 0, moved)
		}
	}
	for _, test := range []struct {
		bug       string
		invariant Invariant
		via       Executor
		seed      func(*testing.T, *Problem, []Step) []Step
	}{
		{"the bridge is announced but not published", Publisher, Kops, dropEffect("publish", 0)},
		{"the bridge is taken down before the workers are replaced", Publisher, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			return moveBefore(t, s, "withdraw", "canary")
		}},
		{"dns-controller is removed first", Publisher, Lab, early("remove-dns-controller")},
		{"the control plane is updated first", Publisher, Lab, func(t *testing.T, p *Problem, s []Step) []Step {
			return moveBefore(t, s, "update-control-plane", "update-workers")
		}},
		{"no policy bridges the narrowed role", Boot, Kops, drop("add-policy")},
		{"the policy is added without an effect", Boot, Kops, dropEffect("add-policy", 0)},
		{"the policy goes before the workers are replaced", Boot, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			return moveBefore(t, s, "remove-policy", "roll-workers")
		}},
		{"the role is narrowed before the workers are replaced", Boot, Lab, early("narrow")},
		{"the load balancer's new port is not there", Boot, Lab, func(t *testing.T, p *Problem, s []Step) []Step {
			return ungate(dropEffect("expose", 0)(t, p, s))
		}},
		{"the load balancer forgets its port while workers depend on it", Boot, Lab, func(t *testing.T, p *Problem, s []Step) []Step {
			return append(s, Step{ID: "seeded", phases: []change{set("", func(_ *Problem, s *State) { s.Config = false })}})
		}},
		{"the load balancer is deleted while workers depend on it", Steady, Lab, func(t *testing.T, p *Problem, s []Step) []Step {
			return append(s, Step{ID: "seeded", phases: []change{set("", func(_ *Problem, s *State) { s.Network = false })}})
		}},
		{"the publisher goes and nothing bridges, until every address is stale", Steady, Kops, drop("publish")},
		{"control-plane nodes are replaced two at a time", Quorum, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			i := slices.IndexFunc(s, func(s Step) bool { return s.ID == "roll-control-plane" })
			s[i].phases = []change{replaceMembers(2)}
			return s
		}},
		{"the workers' role is widened", Privilege, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			i := slices.IndexFunc(s, func(s Step) bool { return s.ID == "roll-control-plane" })
			return slices.Insert(s, i, p.seededWidening())
		}},
		{"the bridge policy stays", Privilege, Kops, drop("remove-policy")},
		{"the classic load balancer goes before there is another", People, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			return moveBefore(t, s, "drop-classic", "make-balancer")
		}},
		{"the other load balancer is made without a target", People, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			return ungate(dropEffect("make-balancer", 2)(t, p, s))
		}},
		{"nobody announces that kOps takes the classic one's targets", People, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			s[0].Outage = ""
			return s
		}},
		{"kOps takes the classic one's targets in a step of its own", People, Kops, func(t *testing.T, p *Problem, s []Step) []Step {
			took := Step{ID: "seeded", Outage: s[0].Outage, phases: s[0].phases[:1]}
			return slices.Insert(s, 0, took)
		}},
		{"the classic load balancer goes where there never is another", People, Lab, func(t *testing.T, p *Problem, s []Step) []Step {
			return ungate(append(s, p.dropClassic()))
		}},
	} {
		t.Run(fmt.Sprintf("%s: %s", test.invariant, test.bug), func(t *testing.T) {
			p := gossiping(3, 20)
			p.Via = test.via
			if test.invariant == People {
				p = withClassic(test.via)
			}
			if test.invariant == Privilege {
				p.starting(func(s *State) { s.Lookup = test.bug == "the bridge policy stays" })
				if !p.origin().Lookup {
					p.starting(func(s *State) { s.Templates, s.Live, s.Config = Set(Hybrid), Set(Hybrid), true })
				}
			}
			steps := p.stepsOf(t, ids(mustPlan(t, p)))
			if v := mustCheck(t, p, slices.Clone(steps)); len(v) > 0 {
				t.Fatalf("the plan without the bug violates %+v", v[0])
			}
			all := mustCheck(t, p, test.seed(t, p, slices.Clone(steps)))
			if !slices.ContainsFunc(all, func(v Violation) bool { return v.Invariant == test.invariant.String() }) {
				t.Errorf("the bug passes; found only %+v", all)
			}
			for _, v := range all {
				if len(v.Story) == 0 {
					t.Errorf("no story for %+v", v)
				}
			}
		})
	}
}

func (p *Problem) seededWidening() Step {
	return Step{ID: "seeded", phases: []change{set("", func(_ *Problem, s *State) { s.Lookup = true })}}
}

// moveBefore moves a step before another, without its preconditions.
func moveBefore(t *testing.T, steps []Step, id, before string) []Step {
	t.Helper()
	i := slices.IndexFunc(steps, func(s Step) bool { return s.ID == id })
	moved := steps[i]
	moved.needs = nil
	steps = slices.Delete(steps, i, i+1)
	j := slices.IndexFunc(steps, func(s Step) bool { return s.ID == before })
	return slices.Insert(steps, j, moved)
}

// ungate removes every precondition.
func ungate(steps []Step) []Step {
	for i := range steps {
		steps[i].needs = nil
	}
	return steps
}

// Without the preconditions the planner must still never return a plan that violates
// an invariant: preconditions only save work; the invariants make it safe.
func TestWithoutPreconditionsThePlannerIsStillSafe(t *testing.T) {
	p := gossiping(3, 20)
	s := &searcher{p: p, steps: ungate(p.forwardSteps()), explorer: newExplorer(t.Context(), p)}
	n, err := s.search(s.root(p.Starts), p.reached)
	if err != nil {
		t.Fatal(err)
	}
	if n == nil {
		t.Fatal("no plan")
	}
	if all := mustCheck(t, p, s.pickSteps(n.path())); len(all) > 0 {
		t.Errorf("a plan was returned that violates %+v", all[0])
	}
}
