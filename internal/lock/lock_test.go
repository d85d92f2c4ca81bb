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

func TestASecondOwnerIsToldWhoseTheLockIs(t *testing.T) {
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
		kept := make(chan error, 1)
		go func() { kept <- l.Keep(ctx) }()
		time.Sleep(10 * Term)
		var held *HeldError
		if _, err := Acquire(t.Context(), s, key, "bob", ""); !errors.As(err, &held) {
			t.Errorf("Acquire after ten terms: %v; want a HeldError", err)
		}
		stop()
		if err := <-kept; err != nil {
			t.Errorf("Keep: %v", err)
		}
	})
}

func TestAnOwnerFindsOutThatTheLockWasBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &mem.Store{}
		l := acquired(t, s, "ann")
		kept := make(chan error, 1)
		go func() { kept <- l.Keep(t.Context()) }()
		was, err := Break(t.Context(), s, key)
		if err != nil || was.Owner != "ann" {
			t.Fatalf("Break: %v, %v; want ann's", was, err)
		}
		if err := <-kept; !errors.Is(err, ErrLost) {
			t.Errorf("Keep: %v; want ErrLost", err)
		}
	})
}

// severed answers nothing once it is cut.
type severed struct {
	store.Store
	cut *atomic.Bool
}

func (s severed) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if s.cut.Load() {
		return "", store.ErrTransient
	}
	return s.Store.Put(ctx, key, data, old)
}

func TestALockIsLostOnlyWhenItCouldNotBeRenewedForAWholeTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := severed{&mem.Store{}, new(atomic.Bool)}
		l := acquired(t, s, "ann")
		began := time.Now()
		kept := make(chan error, 1)
		go func() { kept <- l.Keep(t.Context()) }()
		s.cut.Store(true)
		time.Sleep(Term / 2)
		s.cut.Store(false) // one renewal missed
		time.Sleep(Term)
		select {
		case err := <-kept:
			t.Fatalf("Keep gave up after one missed renewal: %v", err)
		default:
		}
		s.cut.Store(true)
		if err := <-kept; !errors.Is(err, ErrLost) {
			t.Errorf("Keep: %v; want ErrLost", err)
		}
		if held := time.Since(began); held < 2*Term {
			t.Errorf("lost after %v, while the lock still held", held)
		}
	})
}

// deaf stores what is put, and loses the next response.
type deaf struct {
	store.Store
	loseNext atomic.Bool
}

func (s *deaf) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	version, err := s.Store.Put(ctx, key, data, old)
	if err == nil && s.loseNext.Swap(false) {
		return "", store.ErrTransient
	}
	return version, err
}

func TestARenewalWhoseResponseWasLostDoesNotLoseTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &deaf{Store: &mem.Store{}}
		l := acquired(t, s, "ann")
		ctx, stop := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- l.Keep(ctx) }()
		s.loseNext.Store(true)
		time.Sleep(10 * Term)
		stop()
		if err := <-kept; err != nil {
			t.Errorf("Keep: %v", err)
		}
	})
}

func TestReleaseAfterALostResponseReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &deaf{Store: &mem.Store{}}
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

func TestManyWantTheLockAndOneGetsIt(t *testing.T) {
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

func TestWhatIsNoLockIsLeftAlone(t *testing.T) {
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
