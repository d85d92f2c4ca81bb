package plan

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// anyState draws states, plausible or not.
func anyState(t *rapid.T) State {
	s := State{
		Members: Members{
			GossipKnown: uint8(rapid.IntRange(0, maxMembers).Draw(t, "gossip known")),
			GossipStale: uint8(rapid.IntRange(0, maxMembers).Draw(t, "gossip stale")),
			QuietKnown:  uint8(rapid.IntRange(0, maxMembers).Draw(t, "quiet known")),
			QuietStale:  uint8(rapid.IntRange(0, maxMembers).Draw(t, "quiet stale")),
		},
		Away:      uint8(rapid.IntRange(0, 3).Draw(t, "away")),
		Templates: Classes(rapid.IntRange(0, 1<<classCount-1).Draw(t, "templates")),
		Live:      Classes(rapid.IntRange(0, 1<<classCount-1).Draw(t, "live")),
	}
	for _, f := range s.flags() {
		*f = rapid.Bool().Draw(t, "flag")
	}
	return s
}

func TestAStatePacksWithoutLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyState(t)
		if got := stateOf(s.key()); got != s {
			t.Fatalf("packed and unpacked %+v is %+v", s, got)
		}
	})
}

func TestFlagsCoverEveryBooleanField(t *testing.T) {
	var s State
	seen := map[*bool]bool{}
	for _, f := range s.flags() {
		if seen[f] {
			t.Fatal("a flag is listed twice")
		}
		seen[f] = true
		*f = true
	}
	want := State{
		None: true, Agent: true, Edited: true, Quiet: true, Held: true, Serves: true, Classic: true, Emptied: true, Network: true, API: true, Config: true,
		Moved: true, Proven: true, Lookup: true, PolicyBridge: true, Controller: true, Pruning: true, Bridge: true, Ports: true, Old: true,
	}
	if s != want {
		t.Errorf("flags reach %+v, want every one", s)
	}
}

// No event and no step may lose or invent control-plane nodes, or lead to a state
// that does not pack.
func TestChangesConserveControlPlaneNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.IntRange(1, 5).Draw(t, "members")
		p := gossiping(members, 3)
		p.Via = rapid.SampledFrom(Executors()).Draw(t, "via")
		p.Endpoints = rapid.SampledFrom([]Endpoints{Balancer, Addresses}).Draw(t, "endpoints")
		all := events()
		for _, s := range append(p.steps(), p.kopsUpdate(true), p.kopsRoll(true), p.terraformFirstPass()) {
			all = append(all, s.phases...)
		}
		s := p.origin()
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			next := all[rapid.IntRange(0, len(all)-1).Draw(t, "change")].next(p, s, nil)
			if len(next) == 0 {
				continue
			}
			s = next[rapid.IntRange(0, len(next)-1).Draw(t, "branch")]
			if got := int(s.Members.up()) + int(s.Away); got != members {
				t.Fatalf("%d control-plane nodes of %d in %+v", got, members, s)
			}
			if stateOf(s.key()) != s || s.settled() != s {
				t.Fatalf("%+v does not pack or is not settled", s)
			}
		}
	})
}

func TestEveryStepHasARankInReadingOrder(t *testing.T) {
	for _, via := range Executors() {
		for _, e := range []Endpoints{Balancer, Addresses} {
			p := gossiping(3, 3)
			p.Via, p.Endpoints = via, e
			for _, s := range p.steps() {
				if !slices.Contains(readingOrder, s.ID) {
					t.Errorf("step %s has no place in readingOrder", s.ID)
				}
				if s.Title == "" || s.Why == "" || len(s.phases) == 0 || len(p.commands(s.ID)) == 0 {
					t.Errorf("step %s lacks a title, a reason, a phase or a way", s.ID)
				}
				if s.Bridge && s.Undo == "" {
					t.Errorf("bridge %s is never taken down", s.ID)
				}
			}
		}
	}
}
