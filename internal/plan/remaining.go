package plan

import (
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
)

// Remaining describes what of a step is still to be done in the states that a cluster
// may be in, in order. done is Yes if nothing is left in any of them, No if
// something is in each, and Unknown otherwise or without a state. The error means
// that the problem's executor has no such step.
func (p Problem) Remaining(id string, seen []State) (left []string, done cloud.Answer, err error) {
	steps := p.steps()
	i := slices.IndexFunc(steps, func(t Step) bool { return t.ID == id })
	if i < 0 {
		return nil, cloud.Unknown, fmt.Errorf("%q is no step that a plan via %s can have", clip(id), p.Via)
	}
	finished := 0
	for _, s := range seen {
		changes := p.changes(steps[i], s)
		if len(changes) == 0 {
			finished++
		}
		for _, c := range changes {
			if !slices.Contains(left, c) {
				left = append(left, c)
			}
		}
	}
	switch finished {
	case len(seen):
		done = cloud.Yes
	case 0:
		done = cloud.No
	default:
		done = cloud.Unknown
	}
	if len(seen) == 0 {
		done = cloud.Unknown
	}
	return left, done, nil
}

// changes describes what a step changes from a state on, if no event occurs.
func (p *Problem) changes(t Step, s State) (text []string) {
	for _, phase := range t.phases {
		for next := phase.next(p, s, nil); len(next) > 0; next = phase.next(p, s, nil) {
			text = append(text, phase.text(p, s, next[0]))
			s = next[0]
		}
	}
	return text
}

// AnyUnresolved reports whether a new worker of some group might never join, because the
// group's template refers to a name that nothing resolves.
func AnyUnresolved(seen []State) bool {
	return slices.ContainsFunc(seen, func(s State) bool { return s.Templates.Has(Unresolved) })
}

// Observable reports whether observing a cluster can show that a step was done. Neither
// the spec nor the cloud records the effects of the others: that an endpoint was
// proven, that a bridge publishes, which addresses an agent has.
func (p Problem) Observable(id string) bool {
	unobservable := []string{"prove", "hold-addresses", "serve", "add-agent", "remove-agent", "publish", "withdraw", "add-policy", "remove-policy"}
	if p.Endpoints == Addresses {
		unobservable = append(unobservable, "update-workers", "canary", "roll-workers")
	}
	return !slices.Contains(unobservable, id)
}
