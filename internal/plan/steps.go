package plan

import (
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cluster"
)

// steps returns every step that the problem's executor can take, in the order in
// which the search tries steps of equal cost.
func (p *Problem) steps() []Step {
	all := []Step{p.setTopology(), p.unsetTopology()}
	if p.Endpoints == Addresses {
		if p.Via != Lab && p.hasClassic() {
			all = append(all, p.makeBalancer()) // for people
		}
		all = append(all, p.holdAddresses(), p.serve(), p.addAgent(), p.removeAgent(), p.prove())
	} else {
		all = append(all, p.makeBalancer(), p.expose(), p.prove())
	}
	if !p.NoBridge {
		all = append(all, p.publish(), p.withdraw(), p.addPolicy(), p.removePolicy())
	}
	all = append(all,
		p.updateWorkers(), p.canary(), p.rollWorkers(),
		p.updateControlPlane(), p.rollControlPlane(),
		p.restoreWorkers(), p.restoreControlPlane())
	if p.Via == Kops {
		all = append(all, p.updateWorkersHeld())
	}
	return append(all, p.removeController(), p.narrow(), p.closePorts(), p.dropClassic(), p.scrub())
}

// forwardSteps returns the steps that a plan for the problem may consist of; a detour
// through the prior configuration is never cheaper.
func (p *Problem) forwardSteps() []Step {
	var never []string
	switch p.To {
	case cluster.None:
		never = []string{"unset-none", "remove-agent", "restore-workers", "restore-control-plane"}
	case cluster.Hybrid:
		never = []string{"set-none", "remove-agent", "restore-workers", "restore-control-plane", "scrub", "close-ports", "remove-dns-controller"}
	default:
		return p.rollbackSteps()
	}
	return slices.DeleteFunc(p.steps(), func(t Step) bool { return slices.Contains(never, t.ID) })
}

// hasClassic reports whether there may be a classic load balancer when the plan
// begins.
func (p *Problem) hasClassic() bool {
	return slices.ContainsFunc(p.Starts, func(s Start) bool { return s.State.Classic })
}

func (p *Problem) makeBalancer() Step {
	why := "workers that do not gossip need an address that outlives control-plane nodes"
	if p.Endpoints == Addresses {
		why = "people need it: kOps refuses None with the classic one"
	}
	t := Step{
		ID:    "make-balancer",
		Title: "make a network load balancer for the API",
		Why:   why,
		Cost:  Cost{Risk: 4, Minutes: 6},
		needs: []need{{"a load balancer may be made", func(p *Problem, s State) bool { return p.CreateBalancer && !s.Network }}},
		phases: []change{
			set("the load balancer is there, with no target yet", func(_ *Problem, s *State) { s.Network = true }),
			set("the API answers through it", func(_ *Problem, s *State) { s.API = true }),
		},
	}
	if p.Via == Kops && p.hasClassic() {
		t.Hold = true
		t.Outage = "kOps takes the targets from the classic load balancer at once, and makes the network one in minutes; until that one has targets people cannot reach the API, and then once they export the kubeconfig again; no node goes through either"
		t.phases = slices.Insert(t.phases, 0, set("kOps takes the targets from the classic load balancer", func(_ *Problem, s *State) { s.Emptied = s.Classic }))
	}
	return t
}

func (p *Problem) expose() Step {
	return Step{
		ID:     "expose",
		Title:  "expose port 3988 on the load balancer",
		Why:    "workers born from the next templates ask there for their configuration",
		Cost:   Cost{Risk: 2, Minutes: 4},
		needs:  []need{{"there is a network load balancer", func(_ *Problem, s State) bool { return s.Network && s.API }}},
		phases: []change{set("the configuration service answers through the load balancer", func(_ *Problem, s *State) { s.Config = true })},
	}
}

func (p *Problem) holdAddresses() Step {
	return Step{
		ID:     "hold-addresses",
		Title:  "hold the control plane's addresses",
		Why:    "a list is only good while its addresses outlive the nodes behind them",
		Cost:   Cost{Risk: 3, Minutes: 5},
		phases: []change{set("a new control-plane node takes over the address of the one before", func(_ *Problem, s *State) { s.Held = true })},
	}
}

func (p *Problem) serve() Step {
	return Step{
		ID:     "serve",
		Title:  "serve enrolment and endpoints on the control plane",
		Why:    "muster-agent asks the control plane who serves",
		Cost:   Cost{Risk: 2, Minutes: 3},
		needs:  []need{allUp},
		phases: []change{set("each control-plane node serves endpoints", func(_ *Problem, s *State) { s.Serves = true })},
	}
}

func (p *Problem) addAgent() Step {
	return Step{
		ID:     "add-agent",
		Title:  "put muster-agent into the workers' instance groups",
		Why:    "kOps has no address to give them; the agent has the control plane's",
		Undo:   "remove-agent",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{specUnchanged, proven, installable},
		phases: []change{set("the groups' spec carries muster-agent", func(_ *Problem, s *State) { s.Agent = true })},
	}
}

func (p *Problem) removeAgent() Step {
	return Step{
		ID:     "remove-agent",
		Title:  "take muster-agent out of the workers' instance groups",
		Why:    "what is rendered next is without it; workers that live keep theirs",
		Undo:   "add-agent",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{specUnchanged},
		phases: []change{set("the groups' spec carries no muster-agent", func(_ *Problem, s *State) { s.Agent = false })},
	}
}

func (p *Problem) prove() Step {
	t := Step{
		ID:    "prove",
		Title: "prove ports 443 and 3988 from a worker",
		Why:   "a listener is not a service",
		Cost:  Cost{Minutes: 1},
		needs: []need{{"both ports answer", func(_ *Problem, s State) bool { return s.balancerServes() && s.Config }}},
	}
	if p.Endpoints == Addresses {
		t.Title = "prove every control-plane address from a worker"
		t.needs = []need{{"the control plane serves at addresses that last", func(_ *Problem, s State) bool { return s.Serves && s.Held }}}
	}
	t.phases = []change{set("a worker has reached every new endpoint", func(_ *Problem, s *State) { s.Proven = true })}
	return t
}

func (p *Problem) publish() Step {
	return Step{
		ID:     "publish",
		Title:  "publish the load balancer into the overlay",
		Why:    "workers that still gossip then survive every change of the control plane",
		Undo:   "withdraw",
		Bridge: true,
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs: []need{proven, {"workers gossip, and there is a load balancer to send them to",
			func(_ *Problem, s State) bool { return s.hasReaders() && s.balancerServes() && s.Config }}},
		phases: []change{set("api.internal and kops-controller.internal lead to the load balancer", func(_ *Problem, s *State) { s.Bridge = true })},
	}
}

func (p *Problem) withdraw() Step {
	return Step{
		ID:     "withdraw",
		Title:  "take the bridge down",
		Why:    "nobody reads the overlay any more",
		Undo:   "publish",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{{"no worker needs the bridge", func(_ *Problem, s State) bool { return !s.hasReaders() || s.publishing() }}},
		phases: []change{set("the leaf has left the overlay", func(_ *Problem, s *State) { s.Bridge = false })},
	}
}

func (p *Problem) addPolicy() Step {
	return Step{
		ID:     "add-policy",
		Title:  "add a narrow policy to " + p.role(),
		Why:    "kOps narrows the role before workers are replaced; they still survive a reboot",
		Undo:   "remove-policy",
		Bridge: true,
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs: []need{{"workers gossip, and the cloud keeps permissions at a role",
			func(p *Problem, s State) bool { return s.hasReaders() && p.narrowsAtOnce() }}},
		phases: []change{set("the role may list instances and read the state store by the policy alone", func(_ *Problem, s *State) { s.PolicyBridge = true })},
	}
}

func (p *Problem) removePolicy() Step {
	return Step{
		ID:     "remove-policy",
		Title:  "remove the policy from " + p.role(),
		Why:    "the last worker that needed it is gone",
		Undo:   "add-policy",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{{"no worker needs the policy", func(_ *Problem, s State) bool { return !s.hasReaders() || s.Lookup }}},
		phases: []change{set("the policy is gone", func(_ *Problem, s *State) { s.PolicyBridge = false })},
	}
}

func (p *Problem) setTopology() Step {
	return Step{
		ID:     "set-none",
		Title:  "set spec.topology.dns.type to None",
		Why:    "the next update renders what the spec says; nothing changes before it",
		Undo:   "unset-none",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{specUnchanged, acceptsNone},
		phases: []change{set("the spec asks for None", func(_ *Problem, s *State) { s.None = true })},
	}
}

func (p *Problem) unsetTopology() Step {
	return Step{
		ID:     "unset-none",
		Title:  "set spec.topology.dns.type back",
		Why:    "the next update renders what the spec says; nothing changes before it",
		Undo:   "set-none",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{specUnchanged},
		phases: []change{set("the spec asks for gossip", func(_ *Problem, s *State) { s.None = false })},
	}
}

func (p *Problem) updateWorkers() Step {
	return Step{
		ID:     "update-workers",
		Title:  "update the workers' templates",
		Why:    "workers born from now on need no gossip; those that live are not touched",
		Cost:   Cost{Risk: 3, Minutes: 3},
		needs:  []need{specUnchanged, proven, rendered},
		phases: append(p.sideEffects(), templates((*Problem).render)),
	}
}

// updateWorkersHeld is update-workers with kOps told to keep the role's policy. It
// is riskier than a policy of our own: it lasts only until somebody runs a plain
// update.
func (p *Problem) updateWorkersHeld() Step {
	t := p.updateWorkers()
	t.ID = "update-workers-held"
	t.Title = "update the workers' templates, holding back their role"
	t.Why += "; as long as nobody runs a plain update"
	t.Cost.Risk += 3
	t.phases = append(p.addOnEffects(), templates((*Problem).render))
	return t
}

func (p *Problem) canary() Step {
	return Step{
		ID:    "canary",
		Title: "replace one worker of each group, a canary",
		Why:   "if the new way does not work, one node shows it and the old way is still there",
		Cost:  Cost{Minutes: minutesPerWorker * len(p.groups(cluster.RoleNode))},
		phases: []change{{
			text: replaceWorkers().text,
			next: func(p *Problem, s State, out []State) []State {
				if s.Templates&^s.Live == 0 {
					return out
				}
				return replaceWorkers().next(p, s, out)
			},
		}},
	}
}

func (p *Problem) rollWorkers() Step {
	return Step{
		ID:     "roll-workers",
		Title:  fmt.Sprintf("replace the other workers, %d at a time", p.maxAway()),
		Why:    "the canaries joined and work",
		Cost:   Cost{Replaced: p.workers(), Risk: 1, Minutes: p.rollMinutes()},
		needs:  []need{allUp, canariesJoined},
		phases: []change{replaceWorkers()},
	}
}

func (p *Problem) updateControlPlane() Step {
	t := Step{
		ID:    "update-control-plane",
		Title: "update the control plane's templates",
		Why:   "those born from now on do not gossip, so this waits until no worker does",
		Cost:  Cost{Risk: 3, Minutes: 3},
		needs: []need{specUnchanged},
	}
	t.phases = append(p.sideEffects(), set("the control plane's templates no longer gossip", func(_ *Problem, s *State) { s.Quiet, s.Old = s.None, true }))
	return t
}

func (p *Problem) rollControlPlane() Step {
	n := p.members()
	return Step{
		ID:     "roll-control-plane",
		Title:  "replace the control-plane nodes, one at a time",
		Why:    "nobody reads the overlay any more",
		Hold:   true,
		Cost:   Cost{Replaced: n, Risk: 2, Minutes: minutesPerMember * n},
		needs:  []need{allUp},
		phases: []change{replaceMembers(1)},
	}
}

func (p *Problem) restoreWorkers() Step {
	return Step{
		ID:    "restore-workers",
		Title: "apply the workers' configuration of before, with the kOps that made it",
		Why:   "the way back",
		Cost:  Cost{Risk: 4, Minutes: 3},
		needs: []need{specUnchanged, {"template versions of before still exist", func(_ *Problem, s State) bool { return s.Old }},
			{"the spec is that of before", func(p *Problem, s State) bool { return s.None == p.prior().None && s.Agent == p.prior().Agent }}},
		phases: []change{
			set("the workers' role allows what it allowed before", func(p *Problem, s *State) { s.Lookup = p.prior().Lookup }),
			set("dns-controller is deployed", func(p *Problem, s *State) { s.Controller, s.Pruning = p.prior().Controller, false }),
			set("the groups' templates are those of before", func(p *Problem, s *State) { s.Templates = p.prior().Templates }),
		},
	}
}

func (p *Problem) restoreControlPlane() Step {
	t := p.restoreWorkers()
	t.ID = "restore-control-plane"
	t.Title = "apply the control plane's configuration of before, with the kOps that made it"
	t.phases = append(t.phases[:2:2], set("the control plane's templates are those of before", func(p *Problem, s *State) { s.Quiet = p.prior().Quiet }))
	return t
}

func (p *Problem) removeController() Step {
	return Step{
		ID:     "remove-dns-controller",
		Title:  "remove dns-controller",
		Why:    "nobody reads what it publishes; left behind it blocks kOps's validation",
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{noReaders},
		phases: []change{set("dns-controller is gone", func(_ *Problem, s *State) { s.Controller, s.Pruning = false, false })},
	}
}

func (p *Problem) narrow() Step {
	t := Step{
		ID:    "narrow",
		Title: "narrow " + p.role(),
		Why:   "from here on a worker of before could not come back from a reboot, and there is none",
		Hold:  true,
		Cost:  Cost{Risk: 1, Minutes: 1},
		needs: []need{noReaders, workersCurrent},
	}
	t.phases = []change{set("the role no longer allows to list instances or to read the state store", func(_ *Problem, s *State) { s.Lookup = false })}
	return t
}

func (p *Problem) closePorts() Step {
	why := "nothing listens there any more"
	if p.Via == Kops && p.Cloud == cluster.AWS {
		why += "; kOps's next update opens them again, whatever the topology"
	}
	return Step{
		ID:     "close-ports",
		Title:  "close ports 3993 and 3998-4000 between nodes",
		Why:    why,
		Cost:   Cost{Risk: 1, Minutes: 1},
		needs:  []need{gossipGone},
		phases: []change{set("the ports are closed", func(_ *Problem, s *State) { s.Ports = false })},
	}
}

func (p *Problem) dropClassic() Step {
	return Step{
		ID:           "drop-classic",
		Title:        "delete the classic load balancer",
		Why:          "the network one serves the API; people reach it once they export the kubeconfig again",
		Hold:         true,
		Irreversible: true,
		Cost:         Cost{Risk: 2, Minutes: 1},
		needs:        []need{proven, workersCurrent, noReaders, networkBalancer},
		phases:       []change{set("the classic load balancer is gone", func(_ *Problem, s *State) { s.Classic = false })},
	}
}

func (p *Problem) scrub() Step {
	return Step{
		ID:           "scrub",
		Title:        "delete old template versions, renew their credentials",
		Why:          "what they hold would outlive the migration; no way back from here",
		Hold:         true,
		Irreversible: true,
		Cost:         Cost{Risk: 2, Minutes: 2},
		needs: []need{workersCurrent, allUp, {"every control-plane node was born from its template of now", func(_ *Problem, s State) bool {
			return s.Quiet && s.Members.gossiping() == 0 || !s.Quiet && s.Members.quiet() == 0
		}}},
		phases: []change{set("the template versions of before are gone", func(_ *Problem, s *State) { s.Old = false })},
	}
}
