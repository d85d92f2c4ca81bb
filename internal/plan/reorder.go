package plan

// readingOrder is the preferred order of steps where several are equally safe: open
// things as late, and close them as early, as possible.
var readingOrder = []string{
	"make-balancer", "hold-addresses", "serve", "expose", "prove",
	"canary", "roll-workers", "withdraw", "remove-policy",
	"publish", "add-policy", "set-none", "add-agent", "remove-agent", "unset-none",
	"restore-workers", "update-workers", "update-workers-held",
	"restore-control-plane", "update-control-plane", "roll-control-plane",
	"remove-dns-controller", "narrow", "close-ports", "drop-classic", "scrub",
}

// reorder swaps neighbours into reading order where both orders are safe and
// equivalent, so that the plan stays proven at the same cost.
func (s *searcher) reorder(begin *node, steps []int) []int {
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
			if n = s.successor(n, steps[i]); n == nil {
				return steps // interrupted; the order so far is proven
			}
		}
	}
	return steps
}

// commute reports whether two steps are safe and equivalent in either order.
func (s *searcher) commute(n *node, a, b int) bool {
	ba := s.successor(n, b)
	if ba == nil {
		return false
	}
	ab := s.successor(n, a)
	if ba, ab = s.successor(ba, a), s.successor(ab, b); ba == nil || ab == nil {
		return false
	}
	return ba.key() == ab.key() && ba.cost == ab.cost
}
