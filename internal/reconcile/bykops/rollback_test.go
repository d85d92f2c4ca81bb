package bykops_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/report"
)

// numberOf is the number of a plan's step.
func numberOf(f plan.File, id string) int {
	return slices.IndexFunc(f.Steps, func(s plan.Planned) bool { return s.ID == id }) + 1
}

// toCanaries plans for None and carries it out as far as a canary in each group.
func (s *scene) toCanaries() plan.File {
	s.t.Helper()
	f := s.plan(cluster.None)
	s.release(f)
	if r, told := s.leg(f, reconcile.Config{Gates: s.until(f, numberOf(f, "canary"))}, nil); !strings.Contains(r.Why, "the test stops here") {
		s.t.Fatalf("forward: %+v\n%s", r, told)
	}
	return f
}

// previewBack is what a rollback would do, without --yes.
func (s *scene) previewBack(f plan.File) reconcile.Preview {
	s.t.Helper()
	p, err := reconcile.DryRun(s.t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Direction: report.Back, Executor: s.executor(f, nil)}, false)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// canaries are those that live of the template of now, by group.
func canaries(o *cloud.Observation) map[string]int {
	all := map[string]int{}
	for _, g := range o.Groups {
		for _, i := range g.Living() {
			if g.Role == cluster.RoleNode && i.Generation == cloud.GenerationNew {
				all[i.ID] = 1
			}
		}
	}
	return all
}

// replacedBy are the nodes that a run replaced.
func replacedBy(told *story) map[string]int {
	all := maps.Clone(told.replaced)
	maps.DeleteFunc(all, func(_ string, n int) bool { return n == 0 })
	return all
}

// checkCanariesAlone judges a way back from after the canaries: what it replaced,
// what it said before and meanwhile. first is the template version that it all
// began with.
func checkCanariesAlone(t *testing.T, first int, want map[string]int, before reconcile.Preview, told *story) {
	t.Helper()
	if got := replacedBy(told); !maps.Equal(got, want) {
		t.Errorf("replaced %v, want the canaries, %v\n%s", got, want, told)
	}
	expected := map[string]int{}
	for _, step := range before.Steps {
		for _, a := range step.Actions {
			if a.Node != "" {
				expected[a.Node]++
			}
		}
		if step.ID == "roll-workers" && (!strings.Contains(step.Title, "that differ") || !strings.Contains(step.Unknown, "those stay whose template version holds the same")) {
			t.Errorf("before it the roll was shown as %+v", step)
		}
	}
	if !maps.Equal(expected, want) {
		t.Errorf("before it %v were to be replaced, want %v", expected, want)
	}
	for _, says := range []string{
		fmt.Sprintf("stays: its template version %d holds what version %d does", first, first+2),
		fmt.Sprintf("whose template version %d differs from version %d", first+1, first+2),
	} {
		if !strings.Contains(told.String(), says) {
			t.Errorf("nothing says %q\n%s", says, told)
		}
	}
}

func TestARollbackAfterTheCanariesReplacesOnlyThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := fakeScene(t, nil, "")
		before := s.remains(p)
		f := s.toCanaries()
		want, shown := canaries(s.see().Cloud), s.previewBack(f)
		r, told := s.leg(f, reconcile.Config{Direction: report.Back}, nil)
		if r.Ended != reconcile.EndedReturned || len(want) != 1 {
			t.Fatalf("back: %+v from %v\n%s", r, want, told)
		}
		checkCanariesAlone(t, 1, want, shown, told)
		s.checkRestored(before, p, "back from after the canaries", told)
	})
}

// What cannot be compared is as good as different: the version that the untouched
// node was made from was deleted by somebody else.
func TestARollbackReplacesInstancesItCannotCompare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := fakeScene(t, nil, "")
		f := s.toCanaries()
		err := p.Change(t.Context(), func(state *kopstest.FakeState) error {
			for n, i := range state.Instances {
				if i.Group == "nodes-a" && i.Version == 1 {
					state.Instances[n].Unread = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		r, told := s.leg(f, reconcile.Config{Direction: report.Back}, nil)
		if r.Ended != reconcile.EndedReturned {
			t.Fatalf("back: %+v\n%s", r, told)
		}
		if got := replacedBy(told); len(got) != 2 || !strings.Contains(told.String(), "cannot be compared any more") {
			t.Errorf("replaced %v, want both workers\n%s", got, told)
		}
	})
}

// A kOps that is not quite the one of before renders templates that lead back, and
// are still others: then every node really differs.
func TestARollbackByAnotherKopsReplacesEveryWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fakeScene(t, nil, "")
		f := s.toCanaries()
		find := s.find
		s.find = func(version string) *bykops.Kops {
			if version == "1.35.2" {
				version = "1.35.1"
			}
			return find(version)
		}
		r, told := s.leg(f, reconcile.Config{Direction: report.Back}, nil)
		if r.Ended != reconcile.EndedReturned || len(replacedBy(told)) != 2 {
			t.Errorf("back: %+v, replaced %v, want both workers\n%s", r, replacedBy(told), fmt.Sprint(told))
		}
	})
}
