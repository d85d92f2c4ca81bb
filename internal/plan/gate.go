package plan

import (
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
)

// Need is a gate before a step, and whether it holds.
type Need struct {
	Says string `json:"says"` // the condition
	// Holds is Yes if it holds in every state that the cluster may be in, No if it
	// holds in none, and Unknown otherwise.
	Holds cloud.Answer `json:"holds"`
}

// Needs evaluates the needs of a step in the states that a cluster may be in. The
// error means that the problem's executor has no such step.
func (p Problem) Needs(id string, seen []State) ([]Need, error) {
	t, err := p.step(id)
	if err != nil {
		return nil, err
	}
	needs := make([]Need, 0, len(t.needs))
	for _, n := range t.needs {
		yes := 0
		for _, s := range seen {
			if n.holds(&p, s) {
				yes++
			}
		}
		need := Need{Says: n.text, Holds: cloud.Unknown}
		switch {
		case len(seen) > 0 && yes == len(seen):
			need.Holds = cloud.Yes
		case len(seen) > 0 && yes == 0:
			need.Holds = cloud.No
		}
		needs = append(needs, need)
	}
	return needs, nil
}

// step returns the step with an ID.
func (p *Problem) step(id string) (Step, error) {
	all := p.steps()
	i := slices.IndexFunc(all, func(t Step) bool { return t.ID == id })
	if i < 0 {
		return Step{}, fmt.Errorf("%q is no step that a plan via %s can have", clip(id), p.Via)
	}
	return all[i], nil
}

// CompleteStates completes observed states with what observation cannot show, such as that
// an endpoint was proven or that a bridge is up, from the steps that were carried
// out, in order. begun is a step that may be half done, or empty; each state is
// then returned both as if it were done and as if it were not.
//
// While the bridge policy is attached, it hides what the workers' role itself
// allows; the role is then taken to allow no more than the steps have left it.
func (p Problem) CompleteStates(carried []string, begun string, seen []State) ([]State, error) {
	known := []State{p.origin()}
	e := &explorer{p: &p}
	for _, id := range carried {
		t, err := p.step(id)
		if err != nil {
			return nil, err
		}
		known[0] = e.runNominal(known[0], t)
	}
	if begun != "" {
		t, err := p.step(begun)
		if err != nil {
			return nil, err
		}
		known = append(known, e.runNominal(known[0], t))
	}
	var out []State
	for _, s := range seen {
		for _, k := range known {
			if t := s.withKnown(k); !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// withKnown returns an observed state completed from one that the steps led to.
func (s State) withKnown(known State) State {
	s.Proven = s.Proven || known.Proven
	s.Held = s.Held || known.Held
	s.Serves = s.Serves || known.Serves
	s.Agent = s.Agent || known.Agent
	s.Bridge = s.Bridge || known.Bridge
	s.PolicyBridge = s.PolicyBridge || known.PolicyBridge
	s.Lookup = s.Lookup && (known.Lookup || !known.PolicyBridge)
	return s.settled()
}

// SpecEdited describes what somebody else changed in the spec during a step, one
// line each; nothing for a step that itself changes it or has a person do so.
func SpecEdited(step string, then, now []Fact) []string {
	if slices.Contains([]string{"set-none", "unset-none", "add-agent", "remove-agent", "make-balancer"}, step) {
		return nil
	}
	other := func(f Fact) bool { return f.What != SpecFact }
	return Changed(slices.DeleteFunc(slices.Clone(then), other), slices.DeleteFunc(slices.Clone(now), other))
}
