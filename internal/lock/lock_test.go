package lock

import (
	"context"
	"errors"
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
