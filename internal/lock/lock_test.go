package lock

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

const key = "atlas.k8s.local/muster/lock"

func acquired(t *testing.T, s store.Store, owner string) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), s, key, owner, "gossip to none")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestASecondOwnerLearnsWhoHoldsTheLock(t *testing.T) {
	s := &mem.Store{}
	acquired(t, s, "ann@laptop")
	_, err := Acquire(t.Context(), s, key, "bob@ci", "the same")
	var held *HeldError
	if !errors.As(err, &held) || held.State.Owner != "ann@laptop" || held.State.Reason != "gossip to none" {
		t.Errorf("second Acquire: %v; want a HeldError naming ann and her reason", err)
	}
}

func TestTokensOnlyGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &mem.Store{}
		first := acquired(t, s, "ann")
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := acquired(t, s, "bob")
		time.Sleep(Term)
		third := acquired(t, s, "cleo") // bob never renewed
		if _, err := Break(t.Context(), s, key); err != nil {
			t.Fatal(err)
		}
		fourth := acquired(t, s, "dan")
		last := uint64(0)
		for _, l := range []*Lock{first, second, third, fourth} {
			if l.Token() <= last {
				t.Errorf("%s has token %d after %d", l.Owner(), l.Token(), last)
			}
			last = l.Token()
		}
	})
}

func TestALockThatIsRenewedDoesNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &mem.Store{}
		l := acquired(t, s, "ann")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Keep(ctx) }()
		time.Sleep(10 * Term)
		var held *HeldError
		if _, err := Acquire(t.Context(), s, key, "bob", ""); !errors.As(err, &held) {
			t.Errorf("Acquire after ten terms: %v; want a HeldError", err)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Keep: %v", err)
		}
	})
}

func TestAnOwnerLearnsThatTheLockWasBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &mem.Store{}
		l := acquired(t, s, "ann")
		done := make(chan error, 1)
		go func() { done <- l.Keep(t.Context()) }()
		previous, err := Break(t.Context(), s, key)
		if err != nil || previous.Owner != "ann" {
			t.Fatalf("Break: %v, %v; want ann's", previous, err)
		}
		if err := <-done; !errors.Is(err, ErrLost) {
			t.Errorf("Keep: %v; want ErrLost", err)
		}
	})
}

// unreachable is a store whose writes fail while down is set.
type unreachable struct {
	store.Store
	down *atomic.Bool
}

func (s unreachable) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if s.down.Load() {
		return "", store.ErrTransient
	}
	return s.Store.Put(ctx, key, data, old)
}

func TestALockIsLostOnlyAfterAWholeTermWithoutRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := unreachable{&mem.Store{}, new(atomic.Bool)}
		l := acquired(t, s, "ann")
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- l.Keep(t.Context()) }()
		s.down.Store(true)
		time.Sleep(Term / 2)
		s.down.Store(false) // one renewal missed
		time.Sleep(Term)
		select {
		case err := <-done:
			t.Fatalf("Keep gave up after one missed renewal: %v", err)
		default:
		}
		s.down.Store(true)
		if err := <-done; !errors.Is(err, ErrLost) {
			t.Errorf("Keep: %v; want ErrLost", err)
		}
		if held := time.Since(began); held < 2*Term {
			t.Errorf("lost after %v, while the lock still held", held)
		}
	})
}

// lossy is a store that carries out a write and loses its response.
type lossy struct {
	store.Store
	loseNext atomic.Bool
}

func (s *lossy) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	version, err := s.Store.Put(ctx, key, data, old)
	if err == nil && s.loseNext.Swap(false) {
		return "", store.ErrTransient
	}
	return version, err
}

func TestARenewalWhoseResponseWasLostDoesNotLoseTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &lossy{Store: &mem.Store{}}
		l := acquired(t, s, "ann")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Keep(ctx) }()
		s.loseNext.Store(true)
		time.Sleep(10 * Term)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Keep: %v", err)
		}
	})
}

func TestReleaseAfterALostResponseReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &lossy{Store: &mem.Store{}}
		l := acquired(t, s, "ann")
		ctx, stop := context.WithTimeout(t.Context(), Term/2)
		defer stop()
		s.loseNext.Store(true)
		if err := l.Keep(ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state, err := Inspect(t.Context(), s, key); err != nil || !state.Released {
			t.Errorf("after Release: %+v, %v; want a released lock", state, err)
		}
	})
}

func TestOfManyConcurrentOwnersOneGetsTheLock(t *testing.T) {
	s := &mem.Store{}
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := Acquire(t.Context(), s, key, "somebody", "")
			var held *HeldError
			switch {
			case err == nil:
				won.Add(1)
			case !errors.As(err, &held):
				t.Errorf("Acquire: %v; want a HeldError", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d got the lock", won.Load())
	}
}

func TestAnObjectThatIsNotALockIsLeftAlone(t *testing.T) {
	s := &mem.Store{}
	if _, err := s.Put(t.Context(), key, []byte("not a lock"), store.Absent); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), s, key, "ann", ""); err == nil {
		t.Error("Acquire took over an object that is no lock")
	}
	if _, err := Break(t.Context(), s, key); err == nil {
		t.Error("Break overwrote an object that is no lock")
	}
}

// behind is a holder whose clock is five minutes behind ours: by ours its lock has always expired.
type behind struct {
	store   store.Store
	version store.Version
}

func (b *behind) write(t *testing.T, released bool) {
	t.Helper()
	data, err := json.Marshal(State{Owner: "ann@laptop", Reason: "a plan", Since: time.Now().Add(-time.Hour), Expires: time.Now().Add(Term - 5*time.Minute), Token: 7, Released: released})
	if err != nil {
		t.Fatal(err)
	}
	if b.version, err = b.store.Put(context.Background(), "lock", data, b.version); err != nil {
		t.Fatal(err)
	}
}

func TestALockIsNotTakenFromAHolderWhoseClockIsBehind(t *testing.T) {
	for name, test := range map[string]struct {
		next func(t *testing.T, b *behind) // after a third of a term; nil: it is dead
		held bool
		took time.Duration
	}{
		"one that renews it":       {func(t *testing.T, b *behind) { b.write(t, false) }, true, Term / 3},
		"one that releases it":     {func(t *testing.T, b *behind) { b.write(t, true) }, false, Term / 3},
		"one that is no more":      {nil, false, WatchTime},
		"one that has released it": {nil, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &behind{store: &mem.Store{}}
				b.write(t, test.took == 0)
				began := time.Now()
				if test.next != nil {
					timer := time.AfterFunc(Term/3, func() { test.next(t, b) })
					defer timer.Stop()
				}
				l, err := Acquire(t.Context(), b.store, "lock", "bob@desk", "another plan")
				var held *HeldError
				switch {
				case test.held && (!errors.As(err, &held) || !held.Skewed || !strings.Contains(err.Error(), "locked by ann@laptop") || !strings.Contains(err.Error(), "which of the two clocks is wrong")):
					t.Errorf("%v; want that ann has it, and that the clocks differ", err)
				case !test.held && (err != nil || l.Token() != 8):
					t.Errorf("%v; want it taken with the next token", err)
				}
				if took := time.Since(began); took < test.took || took > test.took+watchInterval {
					t.Errorf("it took %v, want %v", took, test.took)
				}
			})
		})
	}
}
