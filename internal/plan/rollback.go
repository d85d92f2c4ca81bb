package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cluster"
)

// WayBack is how to return to the initial state from a point of a plan.
type WayBack struct {
	After int `json:"after"` // the step after which it starts
	// Steps are IDs in order; empty if None is set.
	Steps  []string `json:"steps"`
	States int      `json:"states,omitempty"` // number of states in which it was proven
	None   string   `json:"none,omitempty"`   // why there is no way back
}

// rollbacks finds the cheapest proven way back after each step.
func (p *Problem) rollbacks(ctx context.Context, steps []Step, w proof) []WayBack {
	var all []WayBack
	n := w.beginning
	walker := &searcher{p: p, steps: steps, explorer: newExplorer(ctx, p)}
	origin := p.origin()
	gone := false
	for i, t := range steps {
		if n = walker.successor(n, i); n == nil {
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
		way, states, err := p.searchBack(ctx, begin, origin, p.rollbackSteps())
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

// errNoWayBack means that every order of the steps of a way back was tried.
var errNoWayBack = errors.New("no order of steps back keeps every invariant")

// searchBack finds the cheapest proven way from a node to a state that [restored]
// accepts for target, and the number of states in which it was proven.
func (p *Problem) searchBack(ctx context.Context, begin *node, target State, by []Step) ([]Step, int, error) {
	s := &searcher{p: p, steps: by, explorer: newExplorer(ctx, p), target: &target}
	end, err := s.search(begin, func(at State) bool { return restored(target, at) })
	switch {
	case err != nil:
		return nil, 0, err
	case end == nil:
		return nil, 0, errNoWayBack
	}
	order := s.reorder(begin, end.path())
	s.states = 0
	for at, k := 0, begin; k != nil && at < len(order); at++ {
		k = s.successor(k, order[at])
	}
	return s.pickSteps(order), s.states, nil
}

// prior returns the configuration that a restore leads to: the one that the plan
// started with, or a gossip cluster's where gossip is the target.
func (p *Problem) prior() State {
	s := p.origin()
	if p.To == cluster.Gossip {
		s.None, s.Agent, s.Quiet, s.Templates, s.Lookup, s.Controller = false, false, false, Set(Gossip), true, true
	}
	return s
}

// rollbackSteps returns the steps that a way back may consist of: those that
// restore, and the bridges they need.
func (p *Problem) rollbackSteps() []Step {
	all := slices.DeleteFunc(p.steps(), func(t Step) bool {
		return !slices.Contains([]string{
			"set-none", "unset-none", "add-agent", "remove-agent", "publish", "withdraw", "add-policy", "remove-policy",
			"restore-workers", "restore-control-plane", "canary", "roll-workers", "roll-control-plane",
		}, t.ID)
	})
	for i := range all {
		all[i] = p.forRollback(all[i])
	}
	return all
}

// keptNodes describes the nodes that a way back does not replace.
func (p *Problem) keptNodes() string {
	if p.Via == Lab || p.Cloud != cluster.AWS {
		return "those that do not differ stay"
	}
	return "those whose template version holds the same stay, whatever its number; kops rolling-update goes by number and would still call them NeedsUpdate"
}

// keptNote describes the nodes that a way back leaves alone, if it replaces any.
func (p *Problem) keptNote(w WayBack) []string {
	if !slices.ContainsFunc(w.Steps, func(id string) bool { return strings.HasPrefix(id, "roll-") }) {
		return nil
	}
	return []string{"nodes are replaced that differ from the templates of before; " + p.keptNodes()}
}

// forRollback rewords a roll for a way back, where many nodes may never have been
// replaced.
func (p *Problem) forRollback(t Step) Step {
	switch t.ID {
	case "roll-workers":
		t.Title = fmt.Sprintf("replace the workers that differ from the templates of before, %d at a time", p.maxAway())
		t.Why = p.keptNodes()
	case "roll-control-plane":
		t.Title = "replace the control-plane nodes that differ from the templates of before, one at a time"
		t.Why = p.keptNodes()
	}
	return t
}

// Restored reports whether the templates of a role in s are what a restore of the
// prior configuration makes them.
func (p Problem) Restored(s State, role cluster.Role) bool {
	if role == cluster.RoleControlPlane {
		return s.Quiet == p.prior().Quiet
	}
	return s.Templates&^p.prior().Templates == 0
}

// remainingCostTo is [Problem.remainingCost] for a way back to a state.
func (p *Problem) remainingCostTo(origin, s State) (c Cost) {
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

// restored reports whether s is equivalent to origin for every node: what nodes
// are and what they read is the same. A port that is still exposed, or an address
// that is still held, is harmless.
func restored(origin, s State) bool {
	return s.None == origin.None && s.Templates == origin.Templates && s.Live == origin.Live &&
		s.Quiet == origin.Quiet && (s.Members.quiet() == 0) == (origin.Members.quiet() == 0) &&
		s.Bridge == origin.Bridge && s.PolicyBridge == origin.PolicyBridge && s.Lookup == origin.Lookup &&
		s.Controller == origin.Controller && s.Agent == origin.Agent && !s.Pruning
}
