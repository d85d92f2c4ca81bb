package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/store"
)

func TestASecondOperatorIsToldWhoHoldsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		var second error
		s.during("roll-workers", func(a *Action) {
			other := s.cfg
			other.Owner, other.Executor = "bob@ci 9", &fakeExecutor{backend: s.backend, fuse: &killtest.Fuse{}}
			if second == nil {
				_, second = Run(t.Context(), other)
			}
		})
		if r := s.run(t); r.Ended != EndedDone {
			t.Errorf("the first ended %+v", r)
		}
		var locked *lock.HeldError
		if !errors.As(second, &locked) || locked.State.Owner != "ann@laptop 7" {
			t.Errorf("the second: %v; want that ann has the lock", second)
		}
	})
}

// A clock that is ahead takes a lock over that has not expired. The one whose
// lock it was finds out at its next entry, and does nothing more.
func TestOnlyOneOfTwoRunsThatBelieveTheyHoldTheLockCanWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		taken := false
		var second Result
		s.during("roll-workers", func(a *Action) {
			if taken {
				return
			}
			taken = true
			if _, err := lock.Break(t.Context(), s.store, LockKey("atlas.k8s.local")); err != nil {
				t.Fatal(err)
			}
			other := s.cfg
			other.Owner, other.Executor = "bob@ci 9", &fakeExecutor{backend: s.backend, fuse: &killtest.Fuse{}}
			var err error
			if second, err = Run(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		})
		trace := 0
		_, err := Run(t.Context(), s.cfg)
		trace = len(s.backend.t.Trace)
		if !errors.Is(err, lock.ErrLost) {
			t.Errorf("the first: %v; want that the lock was lost", err)
		}
		if second.Ended != EndedDone {
			t.Errorf("the second ended %+v", second)
		}
		for place, n := range s.backend.t.Replaced {
			if n != 1 {
				t.Errorf("%s was replaced %d times", place, n)
			}
		}
		if len(s.executor.aborted) > 0 || len(s.backend.t.Trace) != trace {
			t.Errorf("the first went on without the lock: %v", s.executor.aborted)
		}
	})
}

// A lock that is lost in the middle of an action ends the action, and nothing is
// tidied up: somebody else is at it.
func TestLosingTheLockEndsTheActionWithoutCleanup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene()
		s.release(t)
		s.during("canary", func(a *Action) {
			a.Limit = time.Hour
			a.Do = func(ctx context.Context, _ func(string)) error {
				if _, err := lock.Break(ctx, s.store, LockKey("atlas.k8s.local")); err != nil {
					t.Error(err)
				}
				<-ctx.Done()
				return ctx.Err()
			}
		})
		began := time.Now()
		_, err := Run(t.Context(), s.cfg)
		if !errors.Is(err, lock.ErrLost) {
			t.Errorf("%v; want that the lock was lost", err)
		}
		if took := time.Since(began); took > 2*lock.Term {
			t.Errorf("found out after %v", took)
		}
		if len(s.executor.aborted) > 0 {
			t.Errorf("tidied up %v without the lock", s.executor.aborted)
		}
		if open := s.position(t).open; len(open) != 1 {
			t.Errorf("open actions %v; want the canary", open)
		}
	})
}

// faulty is a store that does not answer for a while.
type faulty struct {
	store.Store
	from, until int // writes to the journal that get no answer, counted from 1
	writes      *int
}

func (f faulty) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if strings.Contains(key, "/journal/") {
		if *f.writes++; *f.writes >= f.from && *f.writes < f.until {
			return "", fmt.Errorf("write %s: 503 Slow Down: %w", key, store.ErrTransient)
		}
	}
	return f.Store.Put(ctx, key, data, old)
}

func TestAThrottlingStoreIsRetriedAndAFailingOneStopsTheRun(t *testing.T) {
	for name, tt := range map[string]struct {
		until int
		done  bool
	}{
		"throttled for six writes": {56, true},
		"gone for good":            {1 << 30, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene()
				s.release(t)
				s.cfg.Store = faulty{s.store, 50, tt.until, new(int)}
				r, err := Run(t.Context(), s.cfg)
				if tt.done {
					if err != nil || r.Ended != EndedDone {
						t.Errorf("%+v, %v; want done", r, err)
					}
					return
				}
				if !errors.Is(err, store.ErrTransient) {
					t.Errorf("%+v, %v; want that the store did not answer", r, err)
				}
				trace := len(s.backend.t.Trace)
				s.cfg.Store = s.store
				if held(t, s.store).Held(time.Now()) {
					t.Error("the lock was not given back")
				}
				if r := s.run(t); r.Ended != EndedDone || trace == len(s.backend.t.Trace) {
					t.Errorf("then it ended %+v", r)
				}
			})
		})
	}
}
