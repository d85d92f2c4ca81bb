package plan

import (
	"fmt"

	"github.com/muster-dev/muster/internal/cluster"
)

// A change is a transition from a state to any of several. next appends them to
// out, and none where there is nothing to change.
type change struct {
	// text describes one such transition.
	text func(p *Problem, from, to State) string
	next func(p *Problem, s State, out []State) []State
}

// events is what the world may do at any moment. A reboot is not among them: it
// changes nothing, and the boot invariant requires that every node would survive
// one in every state.
func events() []change {
	return []change{
		{
			text: func(p *Problem, _, _ State) string {
				return fmt.Sprintf("%s dies", p.group(cluster.RoleControlPlane))
			},
			next: func(_ *Problem, s State, out []State) []State {
				if s.Away > 0 {
					return out // no order of steps helps against two deaths
				}
				s.Members.each(func(m Members) {
					t := s
					t.Members, t.Away = m, 1
					out = append(out, t.settled())
				})
				return out
			},
		},
		{
			text: func(_ *Problem, _, to State) string {
				if to.Quiet {
					return "a control-plane node comes back from its group's template, which does not gossip"
				}
				return "a control-plane node comes back, with another address"
			},
			next: func(_ *Problem, s State, out []State) []State {
				if s.Away == 0 {
					return out
				}
				return append(out, s.returned())
			},
		},
		{
			text: func(_ *Problem, from, to State) string {
				return fmt.Sprintf("the autoscaler adds a %s worker", to.Live&^from.Live)
			},
			next: func(p *Problem, s State, out []State) []State {
				for c := range (s.Templates &^ s.Live).Each {
					if p.bootFault(s, c) != "" {
						continue // it never becomes a node
					}
					t := s
					t.Live |= Set(c)
					out = append(out, t)
				}
				return out
			},
		},
		{
			text: func(_ *Problem, from, to State) string {
				return fmt.Sprintf("the autoscaler removes the last %s worker", from.Live&^to.Live)
			},
			next: func(_ *Problem, s State, out []State) []State {
				if s.Live.Len() < 2 {
					return out
				}
				for c := range s.Live.Each {
					t := s
					t.Live &^= Set(c)
					out = append(out, t)
				}
				return out
			},
		},
		{
			text: func(*Problem, State, State) string { return "an address of the load balancer changes" },
			next: func(p *Problem, s State, out []State) []State {
				if s.Moved || !s.Network || p.BalancerAddresses == 1 || !(s.Live|s.Templates).has(Hybrid, None) {
					return out
				}
				s.Moved = true
				return append(out, s)
			},
		},
		{
			text: func(*Problem, State, State) string { return "somebody else edits the spec" },
			next: func(_ *Problem, s State, out []State) []State {
				if s.Edited {
					return out
				}
				s.Edited = true
				return append(out, s)
			},
		},
		{
			text: func(*Problem, State, State) string { return "within a minute kOps removes dns-controller" },
			next: func(_ *Problem, s State, out []State) []State {
				if !s.Pruning {
					return out
				}
				s.Pruning, s.Controller = false, false
				return append(out, s)
			},
		},
	}
}

func (s Classes) has(classes ...Class) bool { return s&Set(classes...) != 0 }
