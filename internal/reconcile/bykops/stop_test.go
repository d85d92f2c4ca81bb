package bykops_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// failingStore is a state store that fails on demand: fails is called with the
// number of each call.
type failingStore struct {
	store.Store
	calls *atomic.Int64
	fails func(call int64) bool
}

func (w failingStore) err() error {
	if w.fails(w.calls.Add(1)) {
		return fmt.Errorf("SlowDown: please reduce your request rate: %w", store.ErrTransient)
	}
	return nil
}

func (w failingStore) Get(ctx context.Context, key string) (store.Object, error) {
	if err := w.err(); err != nil {
		return store.Object{}, err
	}
	return w.Store.Get(ctx, key)
}

func (w failingStore) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := w.err(); err != nil {
		return "", err
	}
	return w.Store.Put(ctx, key, data, old)
}

// through carries a plan out with a store that may fail, and returns what stopped
// it, in one line; empty if nothing did.
func (s *scene) through(f plan.File, st store.Store) (why string) {
	s.t.Helper()
	told := &story{t: s.t}
	result, err := reconcile.Run(s.t.Context(), reconcile.Config{Plan: f, Store: st, Owner: "test", Progress: told, Executor: s.executor(f, func(c *bykops.Config) {
		s.killable(&killtest.Fuse{})(c)
		c.Store = st
	})})
	if err == nil && result.Ended == reconcile.EndedDone {
		return ""
	}
	why = result.Why
	if err != nil {
		why = err.Error()
	}
	if strings.Contains(why, "\n") {
		s.t.Errorf("stopped by more than a line: %q", why)
	}
	// Its lock runs out where it could not be given back.
	if _, err := lock.Break(s.t.Context(), s.store, reconcile.LockKey(s.name)); err != nil {
		s.t.Fatal(err)
	}
	return why
}

func TestAFailingStoreStopsARunWhichThenResumes(t *testing.T) {
	stopped := 0
	for from, over := int64(20), false; !over; from += 300 {
		synctest.Test(t, func(t *testing.T) {
			s, _ := fakeScene(t, nil, "")
			f := s.plan(cluster.None)
			s.release(f)
			why := s.through(f, failingStore{s.store, new(atomic.Int64), func(n int64) bool { return n >= from }})
			if over = why == ""; over {
				return
			}
			stopped++
			if !strings.Contains(why, "SlowDown") {
				t.Errorf("after %d calls it was stopped by %q", from, why)
			}
			s.checkEnd(f, s.resume(f))
		})
	}
	if stopped < 2 {
		t.Errorf("stopped %d times", stopped)
	}
	t.Logf("stopped at %d places", stopped)
}

func TestAMigrationSucceedsOnAThrottlingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fakeScene(t, nil, "")
		f := s.plan(cluster.None)
		s.release(f)
		stopped := 0
		for every := int64(97); ; every += 13 {
			why := s.through(f, failingStore{s.store, new(atomic.Int64), func(n int64) bool { return n%every == 0 }})
			if why == "" {
				break
			}
			if stopped++; stopped > 40 {
				t.Fatalf("it never gets there: %s", why)
			}
		}
		s.checkEnd(f, &story{t: t})
		t.Logf("stopped %d times", stopped)
	})
}

// lockBreaker breaks the lock in the middle of an action.
type lockBreaker struct {
	hands
	steal func(ctx context.Context)
}

func (h lockBreaker) Detach(ctx context.Context, id string) error {
	h.steal(ctx)
	return h.hands.Detach(ctx, id)
}

func (h lockBreaker) Deregister(ctx context.Context, id string) error {
	h.steal(ctx)
	return h.hands.Deregister(ctx, id)
}

func TestARunThatLosesItsLockDuringAnActionDoesNothingMore(t *testing.T) {
	for _, which := range []int{1, 2, 3, 4} { // of the actions that begin with taking a node out of something
		synctest.Test(t, func(t *testing.T) {
			s, p := fakeScene(t, nil, "")
			f := s.plan(cluster.None)
			s.release(f)
			n := 0
			var others *lock.Lock
			key := reconcile.LockKey(s.name)
			steal := func(ctx context.Context) {
				if n++; n != which {
					return
				}
				_, err := lock.Break(ctx, s.store, key)
				if err == nil {
					others, err = lock.Acquire(ctx, s.store, key, "bob", "he wants it")
				}
				if err != nil {
					t.Error(err)
				}
				<-ctx.Done() // as long as the cloud takes to answer
			}
			told := &story{t: t}
			_, err := reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Progress: told, Executor: s.executor(f, func(c *bykops.Config) {
				s.killable(&killtest.Fuse{})(c)
				h := lockBreaker{s.operator, steal}
				c.Machines, c.Infrastructure = h, h
			})})
			if !errors.Is(err, lock.ErrLost) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%d: ended with %v\n%s", which, err, told)
			}
			before, err := p.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r, err := reconcile.Current(t.Context(), s.store, s.name)
			if err != nil {
				t.Fatal(err)
			}
			if last := r.Entries[len(r.Entries)-1]; last.Kind != "intent" {
				t.Errorf("%d: the journal ends with %s of %s", which, last.Kind, last.Action)
			}
			for _, i := range before.Instances {
				if i.Detached && n == 1 {
					t.Errorf("%s was detached after the lock was lost", i.ID)
				}
			}
			if err := others.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.checkEnd(f, s.resume(f))
		})
	}
}

// Bridges come down when a run is aborted, wherever it was.
func TestAnAbortTakesBridgesDown(t *testing.T) {
	for after := 1; after <= 6; after++ {
		synctest.Test(t, func(t *testing.T) {
			s, p := fakeScene(t, nil, "")
			before := s.remains(p)
			f := s.plan(cluster.None)
			s.release(f)
			if r, told := s.leg(f, reconcile.Config{Gates: s.until(f, after)}, nil); !strings.Contains(r.Why, "the test stops here") {
				t.Fatalf("forward: %+v\n%s", r, told)
			}
			if after == 6 { // the role was narrowed, and workers of before need the bridge
				_, err := reconcile.Run(t.Context(), reconcile.Config{Plan: f, Store: s.store, Owner: "test", Direction: report.Abort, Executor: s.executor(f, nil)})
				var refused *reconcile.RefusedError
				if !errors.As(err, &refused) || !strings.Contains(refused.Next, "roll back") {
					t.Errorf("after step %d: %v", after, err)
				}
				return
			}
			r, told := s.leg(f, reconcile.Config{Direction: report.Abort}, nil)
			if r.Ended != reconcile.EndedAborted {
				t.Errorf("abort after step %d: %+v\n%s", after, r, told)
			}
			now := s.remains(p)
			if now.Held != nil || fmt.Sprint(now.Roles) != fmt.Sprint(before.Roles) || now.Born != before.Born {
				t.Errorf("abort after step %d left %v held, roles %v, %d instances born\n%s", after, now.Held, now.Roles, now.Born-before.Born, told)
			}
		})
	}
}

func TestKopssNextUpdateOpensThePortsAgainAndTheStepSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := fakeScene(t, nil, "")
		f := s.plan(cluster.None)
		s.release(f)
		_, told := s.leg(f, reconcile.Config{}, nil)
		if !strings.Contains(told.String(), "kOps's next update opens them again") {
			t.Errorf("the step does not say so:\n%s", told)
		}
		open := func() cloud.Answer {
			return s.see().Cloud.Network.Allows(cloud.PartyWorkers, cloud.PartyControlPlane, "tcp", 3999)
		}
		if open() != cloud.No {
			t.Error("the ports were not closed")
		}
		if err := s.find("1.36.2").Run(t.Context(), []string{"update", "cluster", "--name", s.name, "--create-kube-config=false", "--yes"}, func(string) {}); err != nil {
			t.Fatal(err)
		}
		if open() != cloud.Yes {
			t.Error("an update leaves the ports closed, and the step says that it opens them")
		}
		s.checkEnd(f, told) // nothing is left to do all the same
	})
}

func TestAPlanWithAListOfAddressesIsNotForKops(t *testing.T) {
	_, err := bykops.New(bykops.Config{Problem: plan.Problem{Cluster: "a.k8s.local", Endpoints: plan.Addresses}})
	if err == nil || !strings.Contains(err.Error(), "make the plan --via terraform") {
		t.Errorf("got %v", err)
	}
}
