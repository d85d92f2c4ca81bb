package plan

// readingOrder is the order in which people expect steps where the order does
// not matter: what opens something as late, what closes it as soon as it can be.
var readingOrder = []string{
	"make-balancer", "hold-addresses", "serve", "expose", "prove",
	"canary", "roll-workers", "withdraw", "remove-policy",
	"publish", "add-policy", "set-none", "add-agent", "remove-agent", "unset-none",
	"restore-workers", "update-workers", "update-workers-held",
	"restore-control-plane", "update-control-plane", "roll-control-plane",
	"remove-dns-controller", "narrow", "close-ports", "drop-classic", "scrub",
}

// tidy swaps neighbours into reading order where both orders are safe and lead to
// the same: the plan stays as cheap and as proven as it was.
func (s *searcher) tidy(begin *node, steps []int) []int {
	rank := make(map[string]int)
	for i, id := range readingOrder {
		rank[id] = i
	}
	for swapped := true; swapped; {
		swapped = false
		n := begin
		for i := 0; i+1 < len(steps); i++ {
			a, b := steps[i], steps[i+1]
			if rank[s.steps[a].ID] > rank[s.steps[b].ID] && s.commute(n, a, b) {
				steps[i], steps[i+1] = b, a
				swapped = true
			}
			if n = s.take(n, steps[i]); n == nil {
				return steps // out of time; any order that was proven will do
			}
		}
	}
	return steps
}

// commute reports whether two steps lead to the same in either order.
func (s *searcher) commute(n *node, a, b int) bool {
	ba := s.take(n, b)
	if ba == nil {
		return false
	}
	ab := s.take(n, a)
	if ba, ab = s.take(ba, a), s.take(ab, b); ba == nil || ab == nil {
		return false
	}
	return ba.key() == ab.key() && ba.cost == ab.cost
}
