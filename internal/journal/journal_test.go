package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

const dir = "atlas.k8s.local/muster/journal/run-1"

var writer = Writer{By: "ann@laptop", Token: 7}

func opened(t *testing.T, s store.Store) *Journal {
	t.Helper()
	j, err := Open(t.Context(), s, dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func appended(t *testing.T, j *Journal, w Writer, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if _, err := j.Append(t.Context(), w, e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatWasAppendedIsReadBackByTheNextRun(t *testing.T) {
	s := &mem.Store{}
	j := opened(t, s)
	appended(t, j, writer,
		Entry{Kind: Begun},
		Entry{Kind: Intent, Step: "3", Action: "replace i-1", Detail: json.RawMessage(`{"was":"i-1"}`)},
		Entry{Kind: Outcome, Step: "3", Action: "replace i-1", Result: "done"},
	)
	if diff := cmp.Diff(j.Entries(), opened(t, s).Entries()); diff != "" {
		t.Errorf("entries (-written +read):\n%s", diff)
	}
	if n := len(j.Entries()); n != 3 {
		t.Errorf("%d entries; want 3", n)
	}
}

func TestAnEntrysHashIsWhatTheNextOneNames(t *testing.T) {
	s := &mem.Store{}
	appended(t, opened(t, s), writer,
		Entry{Kind: Begun},
		Entry{Kind: Outcome, Detail: json.RawMessage(`{ "html": "<&>", "n": 1.50 }`)},
		Entry{Kind: Ended},
	)
	entries := opened(t, s).Entries()
	for i := range entries[1:] {
		if got := entries[i].Hash(); got != entries[i+1].Prev {
			t.Errorf("entry %d: hash %.12s; the next one names %.12s", i+1, got, entries[i+1].Prev)
		}
	}
}

func TestEntriesStayInOrderHoweverMany(t *testing.T) {
	s := &mem.Store{}
	j := opened(t, s)
	for i := range 25 {
		appended(t, j, writer, Entry{Kind: Note, Action: fmt.Sprint(i)})
	}
	for i, e := range opened(t, s).Entries() {
		if e.Action != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q", i, e.Action)
		}
	}
}

func TestAnActionWithoutOutcomeIsOpen(t *testing.T) {
	j := opened(t, &mem.Store{})
	appended(t, j, writer,
		Entry{Kind: Intent, Step: "1", Action: "a"},
		Entry{Kind: Outcome, Step: "1", Action: "a"},
		Entry{Kind: Intent, Step: "1", Action: "b"},
		Entry{Kind: Intent, Step: "2", Action: "a"},
		Entry{Kind: Intent, Step: "1", Action: "b"}, // tried again by a later run
	)
	var got []string
	for _, e := range j.OpenIntents() {
		got = append(got, e.Step+e.Action)
	}
	if diff := cmp.Diff([]string{"2a", "1b"}, got); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
}

func TestOfTwoWritersOneIsFenced(t *testing.T) {
	s := &mem.Store{}
	first, second := opened(t, s), opened(t, s)
	appended(t, first, writer, Entry{Kind: Begun})
	if _, err := second.Append(t.Context(), Writer{By: "bob", Token: 8}, Entry{Kind: Begun}); !errors.Is(err, ErrFenced) {
		t.Errorf("second writer: %v; want ErrFenced", err)
	}
}

func TestAnOldTokenIsFenced(t *testing.T) {
	s := &mem.Store{}
	appended(t, opened(t, s), Writer{By: "bob", Token: 8}, Entry{Kind: Begun})
	if _, err := opened(t, s).Append(t.Context(), writer, Entry{Kind: Intent}); !errors.Is(err, ErrFenced) {
		t.Errorf("token 7 after 8: %v; want ErrFenced", err)
	}
}

// lossy is a store that carries out a write and loses its response: the
// driver's retry then finds the object there.
type lossy struct{ store.Store }

func (f lossy) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if _, err := f.Store.Put(ctx, key, data, old); err != nil {
		return "", err
	}
	return f.Store.Put(ctx, key, data, old)
}

func TestAWriteWhoseResponseWasLostCountsOnce(t *testing.T) {
	s := &mem.Store{}
	j, err := Open(t.Context(), lossy{s}, dir)
	if err != nil {
		t.Fatal(err)
	}
	appended(t, j, writer, Entry{Kind: Begun}, Entry{Kind: Ended})
	if n := len(opened(t, s).Entries()); n != 2 {
		t.Errorf("%d entries; want 2", n)
	}
}

func TestABrokenChainIsNotRead(t *testing.T) {
	keyOf := func(seq int) string { return fmt.Sprintf("%s/%07d.json", dir, seq) }
	for name, tamper := range map[string]func(t *testing.T, s store.Store){
		"a changed entry": func(t *testing.T, s store.Store) {
			o, err := s.Get(t.Context(), keyOf(2))
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, keyOf(2), strings.Replace(string(o.Data), "done", "gone", 1))
		},
		"a missing entry": func(t *testing.T, s store.Store) { remove(t, s, keyOf(2)) },
		"a missing first": func(t *testing.T, s store.Store) { remove(t, s, keyOf(1)) },
		"half an entry":   func(t *testing.T, s store.Store) { put(t, s, keyOf(3), `{"seq":3,`) },
		"a lower token": func(t *testing.T, s store.Store) {
			o, err := s.Get(t.Context(), keyOf(3))
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, keyOf(3), strings.Replace(string(o.Data), `"token":7`, `"token":6`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &mem.Store{}
			appended(t, opened(t, s), writer, Entry{Kind: Begun}, Entry{Kind: Outcome, Result: "done"}, Entry{Kind: Ended})
			tamper(t, s)
			if _, err := Open(t.Context(), s, dir); !errors.Is(err, ErrBroken) {
				t.Errorf("Open: %v; want ErrBroken", err)
			}
		})
	}
}

func put(t *testing.T, s store.Store, key, data string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, []byte(data), store.Any); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, s store.Store, key string) {
	t.Helper()
	if err := s.Delete(t.Context(), key, store.Any); err != nil {
		t.Fatal(err)
	}
}
