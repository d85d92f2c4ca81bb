package plan

import (
	"slices"

	"github.com/muster-dev/muster/internal/cluster"
)

// Step is what a plan is made of: something that an executor does.
//
// Its needs are gates. They are looked at before the step begins, in the world
// as it is by then; where one does not hold the plan stops there. That is safe,
// because every state in which it may stop has been checked.
type Step struct {
	ID    string // stable, such as "expose"
	Title string
	Why   string // why it is there, and why there

	// Undo is the ID of the step that takes it back; empty if a restore of the
	// configuration of before does, or if nothing can.
	Undo string
	// Bridge: it exists only while the plan runs.
	Bridge bool
	// Hold: the executor waits for a person before it.
	Hold bool
	// Irreversible: nothing takes it back.
	Irreversible bool

	Cost Cost // where it is in no plan yet, as if every node needed it

	// Outage is what nobody can spare people while the step lasts, in words; empty
	// for every other. Where it is over, so is the outage, or it has no place in a
	// plan.
	Outage string

	needs  []need
	phases []change
}

// need is a gate before a step.
type need struct {
	says  string // what must be so
	holds func(p *Problem, s State) bool
}

// Cost is what a step costs. Costs are compared by Replaced, then by Risk, then
// by Minutes.
type Cost struct {
	Replaced int `json:"replaced"` // nodes replaced
	Risk     int `json:"risk"`     // changes to the cloud or the cluster that can go wrong, weighed
	Minutes  int `json:"minutes"`  // planning figures, not measurements
}

// BackTitle is what a step of a way back does, by its ID; the ID itself where no
// step has it.
func (p Problem) BackTitle(id string) string {
	steps := p.stepsBack()
	if i := slices.IndexFunc(steps, func(t Step) bool { return t.ID == id }); i >= 0 {
		return steps[i].Title
	}
	return id
}

func (c Cost) plus(d Cost) Cost {
	return Cost{c.Replaced + d.Replaced, c.Risk + d.Risk, c.Minutes + d.Minutes}
}

// weight orders costs as a number. The parts are bounded far below what their
// fields hold: a plan replaces each of at most a million nodes a few times.
func (c Cost) weight() uint64 {
	return uint64(c.Replaced)<<36 | uint64(c.Risk)<<20 | uint64(c.Minutes)
}

// announced is what the step may do while it lasts.
func (t Step) announced() breaches {
	if t.Outage == "" {
		return 0
	}
	return peopleWait
}

// lookingFor is what is looked for while a step is taken, and once it is over, by
// the number of steps that are.
func (t Step) lookingFor(excused breaches) func(over int) breaches {
	return func(over int) breaches {
		if over == 0 {
			return ^(excused | t.announced())
		}
		return ^excused
	}
}

// ready reports whether the step's needs hold, and if not, what is missing.
func (t Step) ready(p *Problem, s State) (missing string) {
	for _, n := range t.needs {
		if !n.holds(p, s) {
			return n.says
		}
	}
	return ""
}

// set is a phase that changes a state once: to what f makes of it.
func set(says string, f func(p *Problem, s *State)) change {
	return change{
		says: func(*Problem, State, State) string { return says },
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
	specKept = need{"the spec is what it was when the plan was made", func(_ *Problem, s State) bool { return !s.Edited }}
	allUp    = need{"every control-plane node is up", func(_ *Problem, s State) bool { return s.Away == 0 }}
	proven   = need{"a worker has reached every new endpoint", func(_ *Problem, s State) bool { return s.Proven }}
	rendered = need{"the rendered boot configuration holds addresses", func(p *Problem, s State) bool { return p.render(s) != Unresolved }}
	canaried = need{"a canary of each group has joined", func(_ *Problem, s State) bool { return s.Templates&^s.Live == 0 }}
	oneBirth = need{"every worker was born from its group's template of now", func(_ *Problem, s State) bool { return s.Live == s.Templates }}
	// kOps 1.36 refuses None beside a classic load balancer, whatever workers use.
	acceptsNone = need{"the API's load balancer is not a classic one alone, with which kOps refuses None", func(p *Problem, s State) bool {
		return p.Via == Lab || s.Network || !s.Classic
	}}
	// protokube and muster-agent would write one hosts block.
	installable   = need{"the spec asks for None, or muster install refuses it", func(p *Problem, s State) bool { return p.Via == Lab || s.None }}
	otherBalancer = need{"the API answers through the network load balancer", func(_ *Problem, s State) bool { return s.balances() }}

	noReader = need{"no worker takes names from the overlay", func(_ *Problem, s State) bool { return !s.readers() }}
	silent   = need{"nothing gossips any more", func(_ *Problem, s State) bool {
		return !s.readers() && s.Members.gossiping() == 0 && s.Away == 0 && s.Quiet
	}}
)

// render returns the class that kOps 1.36 writes into the workers' templates for
// the spec as it is, from what it finds.
func (p *Problem) render(s State) Class {
	switch {
	case s.Agent && (s.None || p.Via == Lab): // beside kOps's gossip an agent would not be alone
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

// Renders returns the class that workers are born as once the workers' templates
// have been updated for the spec as it is in s.
func (p *Problem) Renders(s State) Class { return p.render(s) }

// templates is the phase in which an update changes the workers' templates,
// group by group.
func templates(to func(p *Problem, s State) Class) change {
	return change{
		says: func(_ *Problem, from, to State) string {
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
		says: func(p *Problem, from, to State) string {
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

// replaceMembers is the phase in which a roll replaces control-plane nodes that
// were not born from the template of now: atOnce at a time.
func replaceMembers(atOnce uint8) change {
	return change{
		says: func(p *Problem, from, to State) string {
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
