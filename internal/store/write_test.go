package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

// contents reads a whole store.
func contents(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	keys, err := s.List(context.WithoutCancel(t.Context()), "")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, key := range keys {
		o, err := s.Get(context.WithoutCancel(t.Context()), key)
		if err != nil {
			t.Fatal(err)
		}
		all[key] = string(o.Data)
	}
	return all
}

func TestSeveralWritesAreAllMadeOrNone(t *testing.T) {
	s := &mem.Store{}
	old := make([]store.Object, 3)
	for i := range 2 {
		key := "a/" + strconv.Itoa(i)
		v, err := s.Put(t.Context(), key, []byte("old"), store.Absent)
		if err != nil {
			t.Fatal(err)
		}
		old[i] = store.Object{Key: key, Data: []byte("old"), Version: v}
	}
	old[2] = store.Object{Key: "a/2"}
	writes := []store.Write{{old[0], []byte("new")}, {old[2], []byte("new")}, {old[1], []byte("new")}}

	// Somebody else changes the last one first.
	theirs, err := s.Put(t.Context(), "a/1", []byte("theirs"), old[1].Version)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.WriteAll(t.Context(), s, writes); !errors.Is(err, store.ErrConflict) {
		t.Errorf("WriteAll = %v, want a conflict", err)
	}
	if got, want := fmt.Sprint(contents(t, s)), "map[a/0:old a/1:theirs]"; got != want {
		t.Errorf("the store holds %s, want %s", got, want)
	}

	// On what is there now it goes through.
	again, err := s.Get(t.Context(), "a/0")
	if err != nil {
		t.Fatal(err)
	}
	writes[0].Old, writes[2].Old.Version = again, theirs
	if err := store.WriteAll(t.Context(), s, writes); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(contents(t, s)), "map[a/0:new a/1:new a/2:new]"; got != want {
		t.Errorf("the store holds %s, want %s", got, want)
	}
}

// ending ends a context at the n-th write.
type ending struct {
	store.Store
	left   int
	cancel func()
}

func (e *ending) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if e.left--; e.left == 0 {
		e.cancel()
	}
	return e.Store.Put(ctx, key, data, old)
}

func TestInterruptedWritesAreRolledBack(t *testing.T) {
	for n := 1; n <= 3; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		s := &mem.Store{}
		writes := []store.Write{{store.Object{Key: "a/1"}, []byte("x")}, {store.Object{Key: "a/2"}, []byte("x")}, {store.Object{Key: "a/3"}, []byte("x")}}
		err := store.WriteAll(ctx, &ending{Store: s, left: n, cancel: cancel}, writes)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at write %d: %v", n, err)
		}
		if got := contents(t, s); len(got) > 0 {
			t.Errorf("interrupted at write %d it leaves %v", n, got)
		}
	}
}

func TestAnUpdateRetriesUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &mem.Store{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tries := 0
		_, err := store.Update(ctx, s, "a", func([]byte) ([]byte, error) {
			tries++
			// Somebody else is always faster.
			_, err := s.Put(t.Context(), "a", []byte(strconv.Itoa(tries)), store.Any)
			return []byte("mine"), err
		})
		if !errors.Is(err, store.ErrConflict) || !errors.Is(err, context.DeadlineExceeded) || tries < 10 {
			t.Errorf("Update = %v after %d tries", err, tries)
		}
	})
}
