package plan

import (
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
)

// Need is a gate before a step, and what the world says to it.
type Need struct {
	Says string `json:"says"` // what must be so
	// Holds is Yes if it holds in every state that the cluster may be in, No if
	// it holds in none, and Unknown otherwise.
	Holds cloud.Answer `json:"holds"`
}

// Needs asks the states that a cluster may be in for the needs of a step. An
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
		need := Need{Says: n.says, Holds: cloud.Unknown}
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

// step returns the step of an ID.
func (p *Problem) step(id string) (Step, error) {
	all := p.steps()
	i := slices.IndexFunc(all, func(t Step) bool { return t.ID == id })
	if i < 0 {
		return Step{}, fmt.Errorf("%q is no step that a plan via %s can have", clip(id), p.Via)
	}
	return all[i], nil
}

// Recall completes states that were seen with what no look at a cluster can
// show, from the steps that were carried out on it, in order: that an endpoint
// was proven, that a bridge of ours is up. begun is a step that may be half done,
// or empty; each state is then told as if it were done and as if it were not.
//
// While a policy of ours stands in for the workers' role, what the role itself
// allows cannot be seen through it; then it allows no more than the steps have
// left it.
func (p Problem) Recall(carried []string, begun string, seen []State) ([]State, error) {
	known := []State{p.origin()}
	e := &explorer{p: &p}
	for _, id := range carried {
		t, err := p.step(id)
		if err != nil {
			return nil, err
		}
		known[0] = e.nominally(known[0], t)
	}
	if begun != "" {
		t, err := p.step(begun)
		if err != nil {
			return nil, err
		}
		known = append(known, e.nominally(known[0], t))
	}
	var out []State
	for _, s := range seen {
		for _, k := range known {
			if t := s.recalling(k); !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// recalling is a state that was seen, with what only memory knows.
func (s State) recalling(known State) State {
	s.Proven = s.Proven || known.Proven
	s.Held = s.Held || known.Held
	s.Serves = s.Serves || known.Serves
	s.Agent = s.Agent || known.Agent
	s.Bridge = s.Bridge || known.Bridge
	s.PolicyBridge = s.PolicyBridge || known.PolicyBridge
	s.Lookup = s.Lookup && (known.Lookup || !known.PolicyBridge)
	return s.settled()
}

// SpecEdited says what somebody else changed of the spec while a step was under
// way, one line each; nothing for a step that itself changes it, or that asks a
// person to.
func SpecEdited(step string, then, now []Fact) []string {
	if slices.Contains([]string{"set-none", "unset-none", "add-agent", "remove-agent", "make-balancer"}, step) {
		return nil
	}
	other := func(f Fact) bool { return f.What != SpecFact }
	return Changed(slices.DeleteFunc(slices.Clone(then), other), slices.DeleteFunc(slices.Clone(now), other))
}
