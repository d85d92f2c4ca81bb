package plan

import (
	"fmt"
	"slices"

	"github.com/muster-dev/muster/internal/cloud"
)

// Left says what of a step is still to be done in the states that a cluster may
// be in: what carrying it out would change, in words and in order. done is Yes if
// nothing is left in any of them, No if something is in each, and Unknown
// otherwise. An error means that the problem's executor has no such step.
func (p Problem) Left(id string, seen []State) (left []string, done cloud.Answer, err error) {
	steps := p.steps()
	i := slices.IndexFunc(steps, func(t Step) bool { return t.ID == id })
	if i < 0 {
		return nil, cloud.Unknown, fmt.Errorf("%q is no step that a plan via %s can have", clip(id), p.Via)
	}
	through := 0
	for _, s := range seen {
		changes := p.changes(steps[i], s)
		if len(changes) == 0 {
			through++
		}
		for _, c := range changes {
			if !slices.Contains(left, c) {
				left = append(left, c)
			}
		}
	}
	switch through {
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

// changes says what a step changes from a state on, if nothing else happens.
func (p *Problem) changes(t Step, s State) (says []string) {
	for _, phase := range t.phases {
		for next := phase.next(p, s, nil); len(next) > 0; next = phase.next(p, s, nil) {
			says = append(says, phase.says(p, s, next[0]))
			s = next[0]
		}
	}
	return says
}

// Dead reports whether a worker that is born now, in a group of any of the
// states, would never join: its template leads to a name that nothing resolves.
func Dead(seen []State) bool {
	return slices.ContainsFunc(seen, func(s State) bool { return s.Templates.Has(Unresolved) })
}

// Shows reports whether a look at a cluster can show that a step was done. What
// the others did is in nobody's spec and in no cloud's answer: that an endpoint
// was proven, that a leaf publishes, which addresses an agent has.
func (p Problem) Shows(id string) bool {
	unseen := []string{"prove", "hold-addresses", "serve", "add-agent", "remove-agent", "publish", "withdraw", "add-policy", "remove-policy"}
	if p.Endpoints == Addresses {
		unseen = append(unseen, "update-workers", "canary", "roll-workers")
	}
	return !slices.Contains(unseen, id)
}
