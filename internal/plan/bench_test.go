package plan

import (
	"fmt"
	"testing"

	"github.com/muster-dev/muster/internal/cluster"
)

// fleet is a cluster of many groups in different states of a migration that
// stopped half-way.
func fleet(groups, size int) *Problem {
	p := gossiping(3, 1)
	p.Groups = p.Groups[:3]
	for i := range groups {
		live := []map[string]int{{"gossip": size}, {"gossip": size / 2, "hybrid": size - size/2}, {"hybrid": size}}[i%3]
		p.Groups = append(p.Groups, Group{Name: fmt.Sprintf("nodes-%d", i), Role: cluster.RoleNode, Live: live})
	}
	return p.starting(func(s *State) {
		s.Templates, s.Live, s.Config, s.Old = Set(Gossip, Hybrid), Set(Gossip, Hybrid), true, true
	})
}

// BenchmarkFind reports the cost of planning; the small cluster should take less
// than a second, the large ones less than ten seconds and a GiB.
func BenchmarkFind(b *testing.B) {
	for name, p := range map[string]*Problem{
		"3+20":                   gossiping(3, 20),
		"5+20":                   gossiping(5, 20),
		"3+20 without bridges":   with(gossiping(3, 20), func(p *Problem) { p.NoBridge = true }),
		"3+50 groups of 100":     fleet(50, 100),
		"5+50 groups, refused":   withoutBalancer(5, 5000),
		"3+20 everything unseen": unseen(),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				pl, err := Find(b.Context(), *p)
				if err != nil {
					b.Fatal(err)
				}
				if pl.Certificate != nil {
					b.ReportMetric(float64(pl.Certificate.States), "states")
				}
			}
		})
	}
}

// unseen is a cluster of which much could not be observed: 32 states.
func unseen() *Problem {
	p := gossiping(3, 20)
	all := p.Starts
	for _, fork := range []func(s *State){
		func(s *State) { s.API = false }, func(s *State) { s.Config = true }, func(s *State) { s.Lookup = false },
		func(s *State) { s.Templates |= Set(Hybrid) }, func(s *State) { s.Live |= Set(Hybrid) },
	} {
		for _, st := range all[:len(all):len(all)] {
			fork(&st.State)
			st.Assumes = []string{"something"}
			all = append(all, st)
		}
	}
	p.Starts = all
	return p
}
