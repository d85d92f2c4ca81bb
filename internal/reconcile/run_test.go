package reconcile

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

// scene is a cluster with a plan for it and a store.
type scene struct {
	backend  *memoryBackend
	executor *fakeExecutor
	store    store.Store
	plan     plan.File
	cfg      Config
}

func newScene() *scene {
	s := &scene{backend: &memoryBackend{t: newFakeCluster()}, store: &mem.Store{}}
	s.plan = planned()
	s.executor = &fakeExecutor{backend: s.backend, fuse: &killtest.Fuse{}}
	s.cfg = Config{Plan: s.plan, Store: s.store, Executor: s.executor, Owner: "ann@laptop 7", Wait: false}
	return s
}

func (s *scene) run(t *testing.T) Result {
	t.Helper()
	r, err := Run(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *scene) record(t testing.TB) Record {
	t.Helper()
	r, err := Current(context.Background(), s.store, "atlas.k8s.local")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *scene) position(t testing.TB) position {
	t.Helper()
	p, err := replay(s.plan, s.record(t).Entries)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// release releases every hold of the plan.
func (s *scene) release(t testing.TB) {
	t.Helper()
	err := UpdateControl(context.Background(), s.store, "atlas.k8s.local", RunID(s.plan), func(c *Control) {
		for leg := 1; leg < 9; leg++ {
			for _, step := range s.plan.Steps {
				c.Released = append(c.Released, Release{Leg: leg, Step: report.StepKey(step), Request: Request{By: "ann"}})
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPlanIsCarriedOutFromEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		if r := s.run(t); r.Ended != EndedDone {
			t.Fatalf("ended %+v", r)
		}
		at := s.backend.t
		if s := at.state(); s.Live != plan.Set(plan.None) || s.Members.GossipKnown > 0 || s.Bridge || s.PolicyBridge || s.Lookup || s.Ports || s.Old {
			t.Errorf("the cluster is %+v", s)
		}
		for place, n := range at.Replaced {
			if n != 1 {
				t.Errorf("%s was replaced %d times", place, n)
			}
		}
		if at.Lowest < 2 {
			t.Errorf("only %d control-plane nodes were up at once", at.Lowest)
		}
		for _, line := range killtest.Story(s.record(t).Entries) {
			t.Log(line)
		}
		if p := s.position(t); p.over() != EndedDone || len(p.bridges) > 0 || p.reached != len(s.plan.Steps) {
			t.Errorf("the journal says over %q, bridges %v, reached %d", p.over(), p.bridges, p.reached)
		}
	})
}

func TestAPlanThatIsDoneHasNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		s.run(t)
		before, trace := len(s.record(t).Entries), len(s.backend.t.Trace)
		if r := s.run(t); r.Ended != EndedNothing {
			t.Errorf("the second run ended %+v", r)
		}
		if n := len(s.record(t).Entries); n != before || len(s.backend.t.Trace) != trace {
			t.Errorf("the second run wrote %d entries and changed the cluster %d times", n-before, len(s.backend.t.Trace)-trace)
		}
	})
}

func TestARunStopsAtAHoldAndGoesOnOnceItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		var holds []string
		for {
			r := s.run(t)
			if r.Ended != EndedHolding {
				if r.Ended != EndedDone {
					t.Errorf("ended %+v", r)
				}
				break
			}
			if again := s.run(t); again.Ended != EndedHolding || again.Step != r.Step {
				t.Fatalf("a hold that nobody released let a run on: %+v", again)
			}
			st, err := s.record(t).Status(held(t, s.store))
			if err != nil {
				t.Fatal(err)
			}
			step, ok, err := ReleaseNext(t.Context(), s.store, st, Request{By: "ann"})
			if err != nil || !ok {
				t.Fatalf("release: %v, %v", ok, err)
			}
			holds = append(holds, step)
		}
		if diff := cmp.Diff([]string{"12 roll-control-plane", "15 scrub"}, holds); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
	})
}

func TestARollbackFromAnyStepRestoresTheInitialState(t *testing.T) {
	for n := 1; n < len(planned().Steps); n++ {
		t.Run(fmt.Sprint("after step ", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				s.stopBefore(n + 1)
				if r := s.run(t); r.Ended != EndedStopped {
					t.Fatalf("ended %+v", r)
				}
				s.cfg.Gates = nil
				s.cfg.Direction, s.cfg.To = report.Back, 0
				if r := s.run(t); r.Ended != EndedReturned {
					t.Fatalf("way back ended %+v", r)
				}
				is := s.backend.t.state()
				if is.Live != plan.Set(plan.Gossip) || is.Members.QuietKnown > 0 || is.None || is.Bridge || is.PolicyBridge || !is.Lookup || !is.Controller {
					t.Errorf("the cluster is %v", is)
				}
				if p := s.position(t); p.over() != EndedReturned {
					t.Errorf("over: %q", p.over())
				}
				s.cfg.Direction = report.Forward
				if _, err := Run(t.Context(), s.cfg); !isRefused(err) {
					t.Errorf("going on after a rollback: %v; want a refusal", err)
				}
			})
		})
	}
}
