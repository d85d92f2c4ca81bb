package reconcile

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
)

// migrate runs a scene's plan in a process that dies at a point, 0 for never, and
// returns how many points there were. A store or a cluster that is cut off for good
// is what a killed process looks like from outside: nothing that the driver does
// afterwards has any effect.
func (s *scene) migrate(t *testing.T, at int) (points int) {
	f := &killtest.Fuse{At: at}
	s.executor.fuse = f
	s.cfg.Store = killtest.Store{Store: s.store, Fuse: f}
	_, err := Run(t.Context(), s.cfg)
	if at > 0 && f.Passed() >= at && !errors.Is(err, killtest.ErrKilled) && f.Dead() == nil {
		t.Fatalf("not killed at point %d: %v", at, err)
	}
	return f.Passed()
}

// resume lets the lock of the dead run out and goes on.
func (s *scene) resume(t *testing.T) Result {
	time.Sleep(lock.Term + time.Second)
	s.executor.fuse = &killtest.Fuse{}
	s.cfg.Store = s.store
	return s.run(t)
}

// everyPoint reports whether a run is to be killed at every point and not at a
// sample of them, which takes minutes: make test-kills.
func everyPoint() bool { return os.Getenv("MUSTER_EVERY_POINT") != "" }

func TestARunThatIsKilledAnywhereEndsLikeOneThatIsNot(t *testing.T) {
	var want *scene
	points := 0
	synctest.Test(t, func(t *testing.T) {
		want = newScene()
		want.release(t)
		points = want.migrate(t, 0)
	})
	story := killtest.Story(want.record(t).Entries)
	stride := 7 // no divisor of what a step takes: each kind of point is among them
	if everyPoint() {
		stride = 1
	}
	for at := 1; at <= points; at += stride {
		synctest.Test(t, func(t *testing.T) {
			s := newScene()
			s.release(t)
			s.migrate(t, at)
			if r := s.resume(t); r.Ended != EndedDone && r.Ended != EndedNothing {
				t.Fatalf("killed at %d: then ended %+v", at, r)
			}
			sameEnd(t, fmt.Sprint("killed at ", at), story, want, s)
		})
	}
	t.Logf("%d points, before and after every write to the state store and every change of the world; killed at each %d", points, stride)
}

// sameEnd compares two clusters and the stories of their journals.
func sameEnd(t testing.TB, what string, story []string, want, got *scene) {
	t.Helper()
	if diff := cmp.Diff(want.backend.t.state(), got.backend.t.state()); diff != "" {
		t.Errorf("%s: end state (-want +got):\n%s", what, diff)
	}
	if diff := cmp.Diff(want.backend.t.Replaced, got.backend.t.Replaced); diff != "" {
		t.Errorf("%s: replacements (-want +got):\n%s", what, diff)
	}
	if got.backend.t.Lowest < 2 {
		t.Errorf("%s: only %d control-plane nodes were up at once", what, got.backend.t.Lowest)
	}
	if diff := cmp.Diff(story, killtest.Ended(killtest.Story(got.record(t).Entries))); diff != "" {
		t.Errorf("%s: the journal's story (-want +got):\n%s", what, diff)
	}
}

// Whoever is killed again and again, at any points, gets there.
func TestARunThatIsKilledManyTimesEndsLikeOneThatIsNot(t *testing.T) {
	var want *scene
	synctest.Test(t, func(t *testing.T) {
		want = newScene()
		want.release(t)
		want.migrate(t, 0)
	})
	story := killtest.Story(want.record(t).Entries)
	rapid.Check(t, func(rt *rapid.T) {
		deaths := rapid.SliceOfN(rapid.IntRange(1, 120), 1, 8).Draw(rt, "deaths")
		synctest.Test(t, func(t *testing.T) {
			s := newScene()
			s.release(t)
			for _, at := range deaths {
				s.migrate(t, at)
				time.Sleep(lock.Term + time.Second)
			}
			if r := s.resume(t); r.Ended != EndedDone && r.Ended != EndedNothing {
				t.Fatalf("killed at %v: then ended %+v", deaths, r)
			}
			sameEnd(t, fmt.Sprint("killed at ", deaths), story, want, s)
		})
	})
}
