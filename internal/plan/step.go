package plan

import (
	"slices"

	"github.com/muster-dev/muster/internal/cluster"
)

// Step is one step of a plan: something that an executor does.
//
// Its needs are gates. They are checked against the cluster just before the step
// begins; where one does not hold the plan stops. That is safe, because every
// state in which it may stop has been checked.
type Step struct {
	ID    string // stable, such as "expose"
	Title string
	Why   string // why it is needed, and why at this point

	// Undo is the ID of the step that reverts it; empty if restoring the prior
	// configuration does, or if nothing can.
	Undo string
	// Bridge: it exists only while the plan runs.
	Bridge bool
	// Hold: the executor waits for a person before it.
	Hold bool
	// Irreversible: nothing reverts it.
	Irreversible bool

	Cost Cost // upper bound, as if every node needed it

	// Outage describes how people lose the API while the step lasts, where that
	// cannot be avoided; usually empty. The outage must end with the step.
	Outage string

	needs  []need
	phases []change
}

// need is a gate before a step.
type need struct {
	text  string // the condition, for people
	holds func(p *Problem, s State) bool
}

// Cost is what a step costs. Costs are compared by Replaced, then by Risk, then
// by Minutes.
type Cost struct {
	Replaced int `json:"replaced"` // nodes replaced
	Risk     int `json:"risk"`     // weighted count of changes to the cloud or cluster that can go wrong
	Minutes  int `json:"minutes"`  // planning figures, not measurements
}

// RollbackTitle returns the title of a step of a way back, or its ID if it is not
// known.
func (p Problem) RollbackTitle(id string) string {
	steps := p.rollbackSteps()
	if i := slices.IndexFunc(steps, func(t Step) bool { return t.ID == id }); i >= 0 {
		return steps[i].Title
	}
	return id
}

func (c Cost) plus(d Cost) Cost {
	return Cost{c.Replaced + d.Replaced, c.Risk + d.Risk, c.Minutes + d.Minutes}
}

// weight packs a cost into a number that orders as costs do. The parts stay far
// below the width of their fields: a plan replaces each of at most a million nodes
// a few times.
func (c Cost) weight() uint64 {
	return uint64(c.Replaced)<<36 | uint64(c.Risk)<<20 | uint64(c.Minutes)
}

// announcedOutage returns the breaches that the step may cause while it lasts.
func (t Step) announcedOutage() breaches {
	if t.Outage == "" {
		return 0
	}
	return peopleOutage
}

// targets returns the breaches to look for, by the number of completed steps: 0
// while the step is taken, more once it is done.
func (t Step) targets(excused breaches) func(done int) breaches {
	return func(done int) breaches {
		if done == 0 {
			return ^(excused | t.announcedOutage())
		}
		return ^excused
	}
}

// ready returns the first need that does not hold, or the empty string if all do.
func (t Step) ready(p *Problem, s State) (missing string) {
	for _, n := range t.needs {
		if !n.holds(p, s) {
			return n.text
		}
	}
	return ""
}

// set returns a phase that applies f to the state, once.
func set(text string, f func(p *Problem, s *State)) change {
	return change{
		text: func(*Problem, State, State) string { return text },
		next: func(p *Problem, s State, out []State) []State {
			t := s
			f(p, &t)
			if t = t.settled(); t != s {
				out = append(out, t)
			}
			return out
		},
	}
}

// The needs that steps share.
var (
	specUnchanged  = need{"the spec is what it was when the plan was made", func(_ *Problem, s State) bool { return !s.Edited }}
	allUp          = need{"every control-plane node is up", func(_ *Problem, s State) bool { return s.Away == 0 }}
	proven         = need{"a worker has reached every new endpoint", func(_ *Problem, s State) bool { return s.Proven }}
	rendered       = need{"the rendered boot configuration holds addresses", func(p *Problem, s State) bool { return p.render(s) != Unresolved }}
	canariesJoined = need{"a canary of each group has joined", func(_ *Problem, s State) bool { return s.Templates&^s.Live == 0 }}
	workersCurrent = need{"every worker was born from its group's template of now", func(_ *Problem, s State) bool { return s.Live == s.Templates }}
	// kOps 1.36 refuses None beside a classic load balancer, whatever workers use.
	acceptsNone = need{"the API's load balancer is not a classic one alone, with which kOps refuses None", func(p *Problem, s State) bool {
		return p.Via == Lab || s.Network || !s.Classic
	}}
	// protokube and muster-agent would both write the hosts block.
	installable     = need{"the spec asks for None, or muster install refuses it", func(p *Problem, s State) bool { return p.Via == Lab || s.None }}
	networkBalancer = need{"the API answers through the network load balancer", func(_ *Problem, s State) bool { return s.balancerServes() }}

	noReaders  = need{"no worker takes names from the overlay", func(_ *Problem, s State) bool { return !s.hasReaders() }}
	gossipGone = need{"nothing gossips any more", func(_ *Problem, s State) bool {
		return !s.hasReaders() && s.Members.gossiping() == 0 && s.Away == 0 && s.Quiet
	}}
)

// render returns the class that kOps 1.36 renders into the workers' templates from
// the spec and what it finds in the cloud.
func (p *Problem) render(s State) Class {
	switch {
	case s.Agent && (s.None || p.Via == Lab): // with kOps's gossip the agent would not be the only writer of the hosts block
		return List
	case s.None && s.Network:
		return None
	case s.None:
		return Unresolved
	case s.Network:
		return Hybrid
	default:
		return Gossip
	}
}

// Renders returns the class that new workers have once their templates have been
// updated for the spec in s.
func (p *Problem) Renders(s State) Class { return p.render(s) }

// templates is the phase in which an update changes the workers' templates,
// group by group.
func templates(to func(p *Problem, s State) Class) change {
	return change{
		text: func(_ *Problem, from, to State) string {
			if added := to.Templates &^ from.Templates; added != 0 {
				return "the first group's template is now " + added.String()
			}
			return "every group's template is now " + to.Templates.String()
		},
		next: func(p *Problem, s State, out []State) []State {
			c := to(p, s)
			if s.Templates == Set(c) {
				return out
			}
			t := s
			t.Old = true
			if t.Templates.Has(c) {
				t.Templates = Set(c)
			} else {
				t.Templates |= Set(c)
			}
			return append(out, t)
		},
	}
}

// replaceWorkers is the phase in which a roll replaces workers.
func replaceWorkers() change {
	return change{
		text: func(p *Problem, from, to State) string {
			if added := to.Live &^ from.Live; added != 0 {
				return "a worker is replaced by one of class " + added.String()
			}
			return "the last worker of class " + (from.Live &^ to.Live).String() + " is replaced"
		},
		next: func(p *Problem, s State, out []State) []State {
			for c := range (s.Templates &^ s.Live).Each {
				t := s
				t.Live |= Set(c)
				out = append(out, t)
			}
			if len(out) > 0 {
				return out
			}
			for c := range (s.Live &^ s.Templates).Each {
				t := s
				t.Live &^= Set(c)
				out = append(out, t)
			}
			return out
		},
	}
}

// replaceMembers is the phase in which a roll replaces the control-plane nodes that
// differ from the current template, atOnce at a time.
func replaceMembers(atOnce uint8) change {
	return change{
		text: func(p *Problem, from, to State) string {
			switch {
			case to.Away > from.Away:
				return p.group(cluster.RoleControlPlane) + " is taken down to be replaced"
			case to.Quiet:
				return "the new control-plane node is up; it does not gossip"
			default:
				return "the new control-plane node is up"
			}
		},
		next: func(_ *Problem, s State, out []State) []State {
			if s.Away > 0 {
				out = append(out, s.returned())
			}
			if s.Away >= atOnce {
				return out
			}
			s.Members.each(func(m Members) {
				if old := m.gossiping() < s.Members.gossiping(); old == s.Quiet {
					t := s
					t.Members, t.Away = m, s.Away+1
					out = append(out, t.settled())
				}
			})
			return out
		},
	}
}
