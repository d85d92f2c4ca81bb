package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// WayBack is how to return to where everything began from a point of a plan.
type WayBack struct {
	After int `json:"after"` // the step after which it begins
	// Steps are IDs, in order; empty with None set.
	Steps  []string `json:"steps"`
	States int      `json:"states,omitempty"` // states that it was proven in
	None   string   `json:"none,omitempty"`   // why there is no way back
}

// waysBack finds the cheapest proven way back from after each step.
func (p *Problem) waysBack(ctx context.Context, steps []Step, w proof) []WayBack {
	var all []WayBack
	n := w.beginning
	walker := &searcher{p: p, steps: steps, explorer: newExplorer(ctx, p)}
	origin := p.origin()
	gone := false
	for i, t := range steps {
		if n = walker.take(n, i); n == nil {
			return all // out of time; the plan itself has been proven
		}
		gone = gone || t.Irreversible
		if gone {
			all = append(all, WayBack{After: i + 1, Steps: []string{}, None: "what it needs was deleted in " + t.ID})
			continue
		}
		begin := &node{runs: n.runs, excused: n.excused}
		back := WayBack{After: i + 1, Steps: []string{}}
		if p.To == cluster.Gossip {
			back.None = fmt.Sprintf("what can be restored is gossip; back to %s leads a plan of its own", p.From)
			all = append(all, back)
			continue
		}
		way, states, err := p.wayTo(ctx, begin, origin, p.stepsBack())
		if ctx.Err() != nil {
			return all // out of time, which does not mean that there is no way
		}
		if err != nil {
			back.None = err.Error()
		}
		for _, t := range way {
			back.Steps = append(back.Steps, t.ID)
		}
		back.States = states
		all = append(all, back)
	}
	return all
}

// errNoWay says that a search for a way back was exhausted.
var errNoWay = errors.New("no order of steps back keeps every invariant")

// wayTo finds the cheapest proven way from a node to a state as good as target,
// and the number of states that it was proven in.
func (p *Problem) wayTo(ctx context.Context, begin *node, target State, by []Step) ([]Step, int, error) {
	s := &searcher{p: p, steps: by, explorer: newExplorer(ctx, p), target: &target}
	end, err := s.search(begin, func(at State) bool { return restored(target, at) })
	switch {
	case err != nil:
		return nil, 0, err
	case end == nil:
		return nil, 0, errNoWay
	}
	order := s.tidy(begin, end.path())
	s.states = 0
	for at, k := 0, begin; k != nil && at < len(order); at++ {
		k = s.take(k, order[at])
	}
	return s.pick(order), s.states, nil
}

// before is what the configuration of before says: the one that the plan began
// with, or that of a gossip cluster where gossip is what is wanted.
func (p *Problem) before() State {
	s := p.origin()
	if p.To == cluster.Gossip {
		s.None, s.Agent, s.Quiet, s.Templates, s.Lookup, s.Controller = false, false, false, Set(Gossip), true, true
	}
	return s
}

// stepsBack are the steps that a way back may be made of: what restores, and the
// bridges to get there.
func (p *Problem) stepsBack() []Step {
	all := slices.DeleteFunc(p.steps(), func(t Step) bool {
		return !slices.Contains([]string{
			"set-none", "unset-none", "add-agent", "remove-agent", "publish", "withdraw", "add-policy", "remove-policy",
			"restore-workers", "restore-control-plane", "canary", "roll-workers", "roll-control-plane",
		}, t.ID)
	})
	for i := range all {
		all[i] = p.onTheWayBack(all[i])
	}
	return all
}

// staying says which nodes a way back leaves alone.
func (p *Problem) staying() string {
	if p.Via == Lab || p.Cloud != cluster.AWS {
		return "those that do not differ stay"
	}
	return "those whose template version holds the same stay, whatever its number; kops rolling-update goes by number and would still call them NeedsUpdate"
}

// stays says which nodes a way back leaves alone, if it replaces any.
func (p *Problem) stays(w WayBack) []string {
	if !slices.ContainsFunc(w.Steps, func(id string) bool { return strings.HasPrefix(id, "roll-") }) {
		return nil
	}
	return []string{"nodes are replaced that differ from the templates of before; " + p.staying()}
}

// onTheWayBack puts a roll into words that fit there: many nodes may never have
// been touched.
func (p *Problem) onTheWayBack(t Step) Step {
	switch t.ID {
	case "roll-workers":
		t.Title = fmt.Sprintf("replace the workers that differ from the templates of before, %d at a time", p.maxAway())
		t.Why = p.staying()
	case "roll-control-plane":
		t.Title = "replace the control-plane nodes that differ from the templates of before, one at a time"
		t.Why = p.staying()
	}
	return t
}

// Restored reports whether the templates of a role are, in a state, what a restore
// of the configuration of before makes of them.
func (p Problem) Restored(s State, role cluster.Role) bool {
	if role == cluster.RoleControlPlane {
		return s.Quiet == p.before().Quiet
	}
	return s.Templates&^p.before().Templates == 0
}

// remainingTo is what [Problem.remaining] is, for a way back to a state.
func (p *Problem) remainingTo(origin, s State) (c Cost) {
	if s.Live != origin.Live {
		t := s
		t.Templates = origin.Templates
		c.Replaced, c.Risk = p.outdated(t), 1
	}
	if n := int(s.Members.quiet()); n > 0 && origin.Members.quiet() == 0 {
		c = c.plus(Cost{n, 2, minutesPerMember * n})
	}
	for _, differs := range []bool{s.Templates != origin.Templates, s.Quiet != origin.Quiet} {
		if differs {
			c = c.plus(Cost{0, 4, 3})
		}
	}
	for _, differs := range []bool{s.None != origin.None, s.Agent != origin.Agent, s.Bridge != origin.Bridge, s.PolicyBridge != origin.PolicyBridge} {
		if differs {
			c = c.plus(Cost{0, 1, 1})
		}
	}
	return c
}

// restored reports whether a state is as good as the one that everything began
// in: what nodes are and read is what it was. A port that is exposed, or an
// address that is held, harms nobody and may stay.
func restored(origin, s State) bool {
	return s.None == origin.None && s.Templates == origin.Templates && s.Live == origin.Live &&
		s.Quiet == origin.Quiet && (s.Members.quiet() == 0) == (origin.Members.quiet() == 0) &&
		s.Bridge == origin.Bridge && s.PolicyBridge == origin.PolicyBridge && s.Lookup == origin.Lookup &&
		s.Controller == origin.Controller && s.Agent == origin.Agent && !s.Pruning
}
