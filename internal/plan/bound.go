package plan

import "github.com/muster-dev/muster/internal/cluster"

// lowerBound returns the least that reaching the goal from a node can cost, as a
// weight: each part is work that only one step does. It only speeds up the search;
// the proof does not rest on it.
func (s *searcher) lowerBound(n *node) (most uint64) {
	remaining := s.p.remainingCost
	if s.target != nil {
		remaining = func(from State) Cost { return s.p.remainingCostTo(*s.target, from) }
	}
	for _, r := range n.runs {
		most = max(most, remaining(r.nominal).weight())
	}
	return most
}

func (p *Problem) remainingCost(s State) (c Cost) {
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
