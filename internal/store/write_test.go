package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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

// unreliable is a store some of whose calls go wrong, by verb and key: "lost" is carried out and has no answer, "refused"
// and "silent" are not carried out, "theirs" comes after somebody else's change.
type unreliable struct {
	store.Store
	faults map[string]string // such as "put a/1"; consumed unless it ends in "!"
}

func (u *unreliable) fault(call string) string {
	f := u.faults[call]
	if kept, ok := strings.CutSuffix(f, "!"); ok {
		return kept
	}
	delete(u.faults, call)
	return f
}

func (u *unreliable) answer(ctx context.Context, call, key string, do func() error) error {
	switch u.fault(call + " " + key) {
	case "lost":
		return errors.Join(do(), fmt.Errorf("%s %s: %w", call, key, store.ErrTransient))
	case "silent":
		return fmt.Errorf("%s %s: %w", call, key, store.ErrTransient)
	case "refused":
		return fmt.Errorf("%s %s: %w", call, key, store.ErrDenied)
	case "theirs":
		if _, err := u.Store.Put(ctx, key, []byte("theirs"), store.Any); err != nil {
			return err
		}
	}
	return do()
}

func (u *unreliable) Get(ctx context.Context, key string) (o store.Object, err error) {
	err = u.answer(ctx, "get", key, func() (err error) {
		o, err = u.Store.Get(ctx, key)
		return err
	})
	return o, err
}

func (u *unreliable) Put(ctx context.Context, key string, data []byte, old store.Version) (v store.Version, err error) {
	call := "put"
	if string(data) == "old" {
		call = "undo"
	}
	err = u.answer(ctx, call, key, func() (err error) {
		v, err = u.Store.Put(ctx, key, data, old)
		return err
	})
	return v, err
}

func (u *unreliable) Delete(ctx context.Context, key string, old store.Version) error {
	return u.answer(ctx, "undo", key, func() error { return u.Store.Delete(ctx, key, old) })
}

func TestWhatIsLeftOfSeveralWritesIsSaidOfEach(t *testing.T) {
	const next = "; see what is there (muster export cluster a --state memory://x) and run the command again: it goes on from that"
	for name, test := range map[string]struct {
		faults map[string]string
		err    string // empty: it succeeds
		left   string
	}{
		"an answer that was lost is looked up": {
			faults: map[string]string{"put a/2": "lost"},
			left:   "map[a/1:new a/2:new a/3:new]",
		},
		"so is that of the last write": {
			faults: map[string]string{"put a/3": "lost"},
			left:   "map[a/1:new a/2:new a/3:new]",
		},
		"a write that was not made ends it, and all is rolled back": {
			faults: map[string]string{"put a/3": "silent"},
			err:    "put a/3: no answer",
			left:   "map[a/1:old a/3:old]",
		},
		"one whose fate nobody can say": {
			faults: map[string]string{"put a/2": "silent", "get a/2": "silent"},
			err:    "put a/2: no answer; perhaps written: memory://x/a/2; rolled back: memory://x/a/1; not written: memory://x/a/3" + next,
			left:   "map[a/1:old a/3:old]",
		},
		"one that cannot be rolled back": {
			faults: map[string]string{"put a/3": "refused", "undo a/1": "refused"},
			err:    "put a/3: denied; written: memory://x/a/1; rolled back: memory://x/a/2; not written: memory://x/a/3" + next,
			left:   "map[a/1:new a/3:old]",
		},
		"a roll-back without an answer that was made": {
			faults: map[string]string{"put a/3": "refused", "undo a/1": "lost", "undo a/2": "lost"},
			err:    "put a/3: denied",
			left:   "map[a/1:old a/3:old]",
		},
		"one that somebody else has changed since is left alone": {
			faults: map[string]string{"put a/3": "refused", "undo a/2": "theirs"},
			err:    "put a/3: denied; changed by somebody else since and left alone: memory://x/a/2; rolled back: memory://x/a/1; not written: memory://x/a/3" + next,
			left:   "map[a/1:old a/2:theirs a/3:old]",
		},
		"nothing answers any more": {
			faults: map[string]string{"put a/2": "silent!", "get a/2": "silent!", "undo a/1": "silent!", "get a/1": "silent!"},
			err:    "put a/2: no answer; perhaps written: memory://x/a/1, memory://x/a/2; not written: memory://x/a/3" + next,
			left:   "map[a/1:new a/3:old]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &mem.Store{Name: "x"}
			writes := []store.Write{{Old: store.Object{Key: "a/1"}}, {Old: store.Object{Key: "a/2"}}, {Old: store.Object{Key: "a/3"}}}
			for i := range writes {
				w := &writes[i]
				w.Data = []byte("new")
				if w.Old.Key == "a/2" {
					continue // it does not exist before
				}
				w.Old.Data = []byte("old")
				var err error
				if w.Old.Version, err = s.Put(t.Context(), w.Old.Key, w.Old.Data, store.Absent); err != nil {
					t.Fatal(err)
				}
			}
			err := store.WriteAll(t.Context(), &unreliable{Store: s, faults: test.faults}, writes)
			if got := fmt.Sprint(err); (err == nil) != (test.err == "") || err != nil && got != test.err {
				t.Errorf("error %s\nwant  %s", got, test.err)
			}
			var partial *store.PartialWriteError
			if errors.As(err, &partial) != strings.Contains(test.err, next) || partial != nil && errors.Is(err, store.ErrDenied) {
				t.Errorf("error %#v is a partial one, or wraps the cause of one: something half done is neither a conflict nor denied", err)
			}
			if got := fmt.Sprint(contents(t, s)); got != test.left {
				t.Errorf("the store holds %s, want %s", got, test.left)
			}
		})
	}
}
