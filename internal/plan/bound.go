package plan

import "github.com/muster-dev/muster/internal/cluster"

// atLeast is what reaching the goal from a node costs at the very least, as a
// weight: each part is what some step has to do that nothing else does. It only
// spares the search; the proof does not rest on it.
func (s *searcher) atLeast(n *node) (most uint64) {
	remaining := s.p.remaining
	if s.target != nil {
		remaining = func(from State) Cost { return s.p.remainingTo(*s.target, from) }
	}
	for _, r := range n.runs {
		most = max(most, remaining(r.nominal).weight())
	}
	return most
}

func (p *Problem) remaining(s State) (c Cost) {
	want := Set(p.goal())
	add := func(missing bool, risk, minutes int) {
		if missing {
			c.Risk += risk
			c.Minutes += minutes
		}
	}
	if s.Live != want {
		t := s
		t.Templates = want
		c.Replaced += p.outdated(t)
		add(true, 1, 0)
	}
	add(s.Templates != want, 3, 3)
	add(s.Bridge, 1, 1)
	add(s.PolicyBridge, 1, 1)
	add(s.Classic && p.To != cluster.Gossip && !p.keepsClassic(s), 2, 1)
	if p.To == cluster.None {
		add(!s.None, 1, 1)
		add(!s.Quiet, 3, 3)
		add(s.Ports, 1, 1)
		add(s.Old || s.Templates != want || !s.Quiet, 2, 2)
		if n := int(s.Members.gossiping()); n > 0 {
			c.Replaced += n
			add(true, 2, minutesPerMember*n)
		}
	}
	return c
}
