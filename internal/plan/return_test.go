package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cloud"
)

// carriedOut returns the state after the first n steps of a plan, and their IDs.
func carriedOut(t *testing.T, pl Plan, n int) (State, []string) {
	t.Helper()
	s, err := pl.Problem.stateAfter(pl.Steps[:n])
	if err != nil {
		t.Fatal(err)
	}
	return s, ids(pl)[:n]
}

func TestReturnFindsTheWayBackThatThePlanPromised(t *testing.T) {
	for name, p := range map[string]*Problem{"kops": gossiping(3, 6), "lab": withVia(gossiping(3, 6), Lab)} {
		t.Run(name, func(t *testing.T) {
			pl := mustPlan(t, p)
			for _, promised := range pl.Back {
				now, _ := carriedOut(t, pl, promised.After)
				way, err := pl.Rollback(t.Context(), []State{now}, promised.After, 0)
				if promised.None != "" {
					if err == nil {
						t.Errorf("after step %d there is a way back, and the plan says %q", promised.After, promised.None)
					}
					continue
				}
				if err != nil {
					t.Errorf("after step %d: %v", promised.After, err)
					continue
				}
				got := []string{}
				for _, s := range way.Steps {
					got = append(got, s.ID)
					if s.Hold {
						t.Errorf("after step %d: %s is a hold on the way back", promised.After, s.ID)
					}
				}
				if diff := cmp.Diff(promised.Steps, got); diff != "" {
					t.Errorf("after step %d (-promised +found):\n%s", promised.After, diff)
				}
			}
		})
	}
}

func withVia(p *Problem, via Executor) *Problem {
	p.Via = via
	return p
}

func TestAWayBackToTheMiddleLeadsThere(t *testing.T) {
	p := gossiping(3, 6)
	pl := mustPlan(t, p)
	found := 0
	for _, from := range []int{2, 5, 8, 11} {
		for _, to := range []int{1, 4, 5, 9} {
			if to > from {
				continue
			}
			now, _ := carriedOut(t, pl, from)
			way, err := pl.Rollback(t.Context(), []State{now}, from, to)
			if err != nil {
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("from %d to %d: more than one line: %v", from, to, err)
				}
				continue
			}
			found++
			e := newExplorer(t.Context(), p)
			for _, s := range way.Steps {
				now = e.runNominal(now, p.stepsOf(t, []string{s.ID})[0])
			}
			if want, _ := carriedOut(t, pl, to); !restored(want, now) {
				t.Errorf("from %d to %d by %v: %v; want %v", from, to, way.Steps, now, want)
			}
		}
	}
	t.Logf("%d ways back to the middle of %d steps", found, len(pl.Steps))
	if found < 4 {
		t.Errorf("only %d ways back to the middle of the plan", found)
	}
}

func TestThereIsNoWayBackAfterADeletion(t *testing.T) {
	pl := mustPlan(t, gossiping(3, 6))
	last := len(pl.Steps)
	now, _ := carriedOut(t, pl, last)
	if _, err := pl.Rollback(t.Context(), []State{now}, last, 0); err == nil || !strings.Contains(err.Error(), "deleted in step") {
		t.Errorf("Return after scrub: %v; want that something was deleted", err)
	}
}

func TestANeedHoldsFailsOrIsUnknown(t *testing.T) {
	p := gossiping(3, 6)
	proven, not := p.origin(), p.origin()
	proven.Proven = true
	for name, tt := range map[string]struct {
		seen []State
		want cloud.Answer
	}{
		"where every state says so it holds":       {[]State{proven, proven}, cloud.Yes},
		"where none does it does not":              {[]State{not}, cloud.No},
		"where they differ it is unknown":          {[]State{proven, not}, cloud.Unknown},
		"where nothing was seen it is not settled": {nil, cloud.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			needs, err := p.Needs("update-workers", tt.seen)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(needs, func(n Need) bool { return strings.Contains(n.Says, "every new endpoint") })
			if i < 0 || needs[i].Holds != tt.want {
				t.Errorf("needs %+v; want %q", needs, tt.want)
			}
		})
	}
	if _, err := p.Needs("drop-everything", nil); err == nil {
		t.Error("a step that no plan has was asked for its needs")
	}
}

func TestRecallRestoresWhatObservationCannotShow(t *testing.T) {
	p := gossiping(3, 6)
	seen := p.origin()
	recall := func(carried []string, begun string) []State {
		t.Helper()
		states, err := p.CompleteStates(carried, begun, []State{seen})
		if err != nil {
			t.Fatal(err)
		}
		return states
	}
	if s := recall(nil, ""); len(s) != 1 || s[0] != seen {
		t.Errorf("nothing carried out, and recalled is %+v", s)
	}
	if s := recall([]string{"expose", "prove"}, ""); !s[0].Proven {
		t.Error("what was proven is forgotten")
	}
	if s := recall([]string{"expose", "prove", "publish"}, ""); !s[0].Bridge {
		t.Error("the bridge is forgotten")
	}
	if s := recall([]string{"expose", "prove", "publish", "withdraw"}, ""); s[0].Bridge {
		t.Error("the bridge was taken down, and is recalled as up")
	}
	if s := recall([]string{"expose", "prove"}, "publish"); len(s) != 2 || s[0].Bridge == s[1].Bridge {
		t.Errorf("a bridge half put up may be up or not; recalled %+v", s)
	}
}

// kOps narrows the role while the bridge policy stands in for it: that workers may
// still list instances must not lead to the policy being removed.
func TestTheBridgePolicyDoesNotHideANarrowedRole(t *testing.T) {
	p := gossiping(3, 6)
	seen := p.origin() // Lookup, by the policy
	states, err := p.CompleteStates([]string{"expose", "prove", "publish", "add-policy", "set-none", "update-workers"}, "", []State{seen})
	if err != nil {
		t.Fatal(err)
	}
	needs, err := p.Needs("remove-policy", states)
	if err != nil {
		t.Fatal(err)
	}
	if len(needs) != 1 || needs[0].Holds != cloud.No {
		t.Errorf("needs of remove-policy: %+v; want one that does not hold", needs)
	}
}

func TestOnlyTheSpecIsComparedWithinAStep(t *testing.T) {
	then := []Fact{{Subject: "atlas", What: "spec", Value: "aaa", Digest: "aaa"}, {Subject: "nodes", What: "generations", Value: "old", Digest: "1"}}
	rolled := []Fact{{Subject: "atlas", What: "spec", Value: "aaa", Digest: "aaa"}, {Subject: "nodes", What: "generations", Value: "old new", Digest: "2"}}
	edited := []Fact{{Subject: "atlas", What: "spec", Value: "bbb", Digest: "bbb"}, {Subject: "nodes", What: "generations", Value: "old", Digest: "1"}}
	if got := SpecEdited("roll-workers", then, rolled); len(got) != 0 {
		t.Errorf("a roll changes generations: %q", got)
	}
	if got := SpecEdited("roll-workers", then, edited); len(got) != 1 {
		t.Errorf("an edited spec: %q; want one line", got)
	}
	if got := SpecEdited("set-none", then, edited); len(got) != 0 {
		t.Errorf("set-none edits the spec itself: %q", got)
	}
}
