package plan

import "github.com/muster-dev/muster/internal/cluster"

// sideEffects returns what every update of kOps 1.36 does, whichever groups it is
// told to update: its filter limits templates and nothing else.
func (p *Problem) sideEffects() []change {
	if p.Via != Kops {
		return nil
	}
	return append([]change{{
		text: func(p *Problem, _, _ State) string { return "kOps narrows " + p.role() + " at once" },
		next: func(p *Problem, s State, out []State) []State {
			if !s.Lookup || !p.narrowsAtOnce() || p.render(s) == Gossip {
				return out
			}
			s.Lookup = false
			return append(out, s)
		},
	}}, p.addOnEffects()...)
}

// addOnEffects returns the side effects that no flag of kOps suppresses.
func (p *Problem) addOnEffects() []change {
	if p.Via != Kops {
		return nil
	}
	return []change{
		set("kOps puts port 3988 on the load balancer", func(p *Problem, s *State) { s.Config = s.Config || s.Network }),
		set("kOps changes its add-ons: dns-controller is to go", func(_ *Problem, s *State) { s.Pruning = s.None && s.Controller }),
	}
}

// narrowsAtOnce reports whether narrowing a role affects live workers. Outside AWS
// the permission came with their user-data, or kOps never revokes it.
func (p *Problem) narrowsAtOnce() bool { return p.Cloud == cluster.AWS }

// kopsUpdate is `kops update cluster`, for the control plane's groups or for all;
// kOps itself has no gates.
func (p *Problem) kopsUpdate(all bool) Step {
	control := p.updateControlPlane()
	t := Step{ID: "kops-update-control-plane", Title: "kops update cluster --instance-group-roles=control-plane,apiserver --yes", phases: control.phases, Cost: control.Cost}
	if all {
		t.ID, t.Title = "kops-update", "kops update cluster --yes"
		t.phases = append(t.phases[:len(t.phases):len(t.phases)], templates((*Problem).render))
	}
	return t
}

// kopsRoll is `kops rolling-update cluster`.
func (p *Problem) kopsRoll(all bool) Step {
	t := Step{ID: "kops-roll-control-plane", Title: "kops rolling-update cluster --instance-group-roles=control-plane,apiserver --yes", phases: []change{replaceMembers(1)}, Cost: p.rollControlPlane().Cost}
	if all {
		t.ID, t.Title = "kops-roll", "kops rolling-update cluster --yes"
		t.phases = append(t.phases, replaceWorkers())
		t.Cost = t.Cost.plus(p.rollWorkers().Cost)
	}
	return t
}

// kopsReconcile is what `kops reconcile cluster --yes` runs.
func (p *Problem) kopsReconcile() []Step {
	return []Step{p.kopsUpdate(false), p.kopsRoll(false), p.kopsUpdate(true), p.kopsRoll(true)}
}

// terraformFirstPass is `terraform apply` of what kOps rendered before there was a
// load balancer to take addresses from.
func (p *Problem) terraformFirstPass() Step {
	return Step{
		ID:    "terraform-apply",
		Title: "terraform apply of what kOps wrote for the first time",
		phases: []change{
			templates(func(_ *Problem, s State) Class {
				if s.Network && s.Config {
					return None
				}
				return Unresolved
			}),
			set("the load balancer is there", func(_ *Problem, s *State) { s.Network, s.API, s.Config = true, true, true }),
			set("the workers' role is narrowed", func(_ *Problem, s *State) { s.Lookup = false }),
		},
		Cost: Cost{Risk: 8, Minutes: 6},
	}
}
