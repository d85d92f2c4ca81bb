// Package storetest is the conformance suite of package store's drivers. A driver's tests call [Run]; known deviations of
// its server are declared in [Knobs].
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/store"
)

// Knobs are the deviations of a server. The zero value allows none.
type Knobs struct {
	// Many is how many objects List is tested with, more than a page of the server. Zero means 30.
	Many int
	// Editors is how many writers change one object concurrently. Zero means 200.
	Editors int
	// LosesResponses: the server loses responses. An edit whose response was lost and that was overwritten meanwhile may
	// then be made twice, since nothing shows that it was made. None may be lost.
	LosesResponses bool
	// NoFolderBesideObject: the store cannot hold both the keys a and a/b.
	NoFolderBesideObject bool
}

// Run runs the suite. open returns an empty store for each test.
func Run(t *testing.T, k Knobs, open func(t *testing.T) store.Store) {
	if k.Many == 0 {
		k.Many = 30
	}
	if k.Editors == 0 {
		k.Editors = 200
	}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, s store.Store, k Knobs)
	}{
		{"an object reads back as it was written", readsBack},
		{"a missing object is not found", missing},
		{"an object is created once", createdOnce},
		{"a write needs the version that is there", writeNeedsVersion},
		{"a delete needs the version that is there", deleteNeedsVersion},
		{"any version overwrites", anyOverwrites},
		{"a list has every key below a prefix and no other", lists},
		{"names are those directly below a prefix", names},
		{"a list has more than one page", listsMany},
		{"a bad key reaches nothing", badKeys},
		{"an ended context ends a call", contextEnded},
		{"concurrent editors lose nothing", loseNothing},
		{"concurrent creators make one object", createOne},
		{"the caller's bytes stay the caller's", copiesData},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t), k) })
	}
}

// Timeouts checks how a driver classifies the errors of its HTTP client: a request's own timeout is transient, the
// caller's deadline is not. fault is the driver's classification.
func Timeouts(t *testing.T, fault func(context.Context, error) error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	res, err := (&http.Client{Timeout: time.Millisecond}).Get(server.URL)
	if err == nil {
		res.Body.Close()
		t.Fatal("a request without a response succeeded")
	}
	wantError(t, "a request's timeout", fault(t.Context(), err), store.ErrTransient)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	err = fault(ctx, ctx.Err())
	wantError(t, "the caller's deadline", err, context.DeadlineExceeded)
	if errors.Is(err, store.ErrTransient) {
		t.Errorf("the caller's deadline: %v is transient", err)
	}
}

func put(t *testing.T, s store.Store, key, data string, old store.Version) store.Version {
	t.Helper()
	v, err := s.Put(t.Context(), key, []byte(data), old)
	if err != nil {
		t.Fatalf("Put(%q, old %q): %v", key, old, err)
	}
	if v == store.Absent || v == store.Any {
		t.Fatalf("Put(%q) returns the version %q, which means something else", key, v)
	}
	return v
}

// wantObject checks an object's content and, unless want is empty, its version.
func wantObject(t *testing.T, s store.Store, key, data string, version store.Version) store.Version {
	t.Helper()
	o, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	if o.Key != key || string(o.Data) != data || version != "" && o.Version != version {
		t.Fatalf("Get(%q) = %q, %d bytes %.40q, version %q; want %d bytes %.40q, version %q",
			key, o.Key, len(o.Data), o.Data, o.Version, len(data), data, version)
	}
	return o.Version
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", what, err, want)
	}
}

func readsBack(t *testing.T, s store.Store, _ Knobs) {
	for key, data := range map[string]string{
		"atlas.k8s.local/config":                   "apiVersion: kops.k8s.io/v1alpha2\nkind: Cluster\n",
		"atlas.k8s.local/empty":                    "",
		"atlas.k8s.local/binary":                   "\x00\xff\r\n\x80",
		"atlas.k8s.local/large":                    strings.Repeat("0123456789abcdef", 1<<16),
		"atlas.k8s.local/a name with spaces":       "x",
		"atlas.k8s.local/a+b&c=d?e#f%41:g@h~(i),'": "x",
		"atlas.k8s.local/grüße/日本":                 "x",
		"top":                                      "x",
	} {
		v := put(t, s, key, data, store.Absent)
		wantObject(t, s, key, data, v)
		keys, err := s.List(t.Context(), "")
		if err != nil || !slices.Contains(keys, key) {
			t.Errorf("List has %q (%v), not %q", keys, err, key)
		}
	}
}

func missing(t *testing.T, s store.Store, _ Knobs) {
	ctx := t.Context()
	put(t, s, "a/b/c", "x", store.Absent)
	for _, key := range []string{"nothing", "a/b", "a/b/c/d", "a/b/d"} {
		_, err := s.Get(ctx, key)
		wantError(t, "Get "+key, err, store.ErrNotFound)
		wantError(t, "Delete "+key, s.Delete(ctx, key, store.Any), store.ErrNotFound)
	}
}

func createdOnce(t *testing.T, s store.Store, _ Knobs) {
	v := put(t, s, "a/config", "first", store.Absent)
	_, err := s.Put(t.Context(), "a/config", []byte("second"), store.Absent)
	wantError(t, "second Put", err, store.ErrConflict)
	wantObject(t, s, "a/config", "first", v)
	if err := s.Delete(t.Context(), "a/config", v); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/config", "third", store.Absent)
}

func writeNeedsVersion(t *testing.T, s store.Store, _ Knobs) {
	ctx := t.Context()
	first := put(t, s, "a/config", "first", store.Absent)
	second := put(t, s, "a/config", "second", first)
	if first == second {
		t.Errorf("two contents have one version %q", first)
	}
	_, err := s.Put(ctx, "a/config", []byte("third"), first)
	wantError(t, "Put over a version that is gone", err, store.ErrConflict)
	wantObject(t, s, "a/config", "second", second)
	_, err = s.Put(ctx, "a/other", []byte("x"), second)
	wantError(t, "Put over an object that is not there", err, store.ErrConflict)
	_, err = s.Get(ctx, "a/other")
	wantError(t, "Get of what was not written", err, store.ErrNotFound)
}

func deleteNeedsVersion(t *testing.T, s store.Store, _ Knobs) {
	ctx := t.Context()
	first := put(t, s, "a/config", "first", store.Absent)
	second := put(t, s, "a/config", "second", first)
	wantError(t, "Delete of a version that is gone", s.Delete(ctx, "a/config", first), store.ErrConflict)
	wantObject(t, s, "a/config", "second", second)
	if err := s.Delete(ctx, "a/config", second); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(ctx, "a/config")
	wantError(t, "Get of what was deleted", err, store.ErrNotFound)
	wantError(t, "Delete of what was deleted", s.Delete(ctx, "a/config", store.Any), store.ErrNotFound)
	put(t, s, "a/config", "third", store.Absent)
	if err := s.Delete(ctx, "a/config", store.Any); err != nil {
		t.Errorf("Delete of any version: %v", err)
	}
}

func anyOverwrites(t *testing.T, s store.Store, _ Knobs) {
	put(t, s, "a/muster/beat", "1", store.Any)
	v := put(t, s, "a/muster/beat", "2", store.Any)
	wantObject(t, s, "a/muster/beat", "2", v)
}

func lists(t *testing.T, s store.Store, k Knobs) {
	keys := []string{"a/config", "a/instancegroup/cp", "a/instancegroup/nodes", "a/instancegroup-old/x", "a/muster/j/1", "ab/config", "b/config"}
	if !k.NoFolderBesideObject {
		keys = append(keys, "a/instancegroup")
	}
	for _, key := range keys {
		put(t, s, key, "x", store.Absent)
	}
	slices.Sort(keys)
	for prefix, want := range map[string][]string{
		"":                keys,
		"a/instancegroup": {"a/instancegroup/cp", "a/instancegroup/nodes"},
		"a/muster":        {"a/muster/j/1"},
		"ab":              {"ab/config"},
		"a/config":        nil,
		"c":               nil,
		"c/d/e":           nil,
	} {
		got, err := s.List(t.Context(), prefix)
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		if diff := cmp.Diff(want, got, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
			t.Errorf("List(%q) (-want +got):\n%s", prefix, diff)
		}
	}
}

func names(t *testing.T, s store.Store, k Knobs) {
	for _, key := range []string{"a/config", "a/instancegroup/cp", "a/instancegroup/nodes", "a/backups/1/2", "ab/config"} {
		put(t, s, key, "x", store.Absent)
	}
	if !k.NoFolderBesideObject {
		put(t, s, "a", "x", store.Absent)
	}
	for prefix, want := range map[string][]string{
		"":                {"a", "ab"},
		"a":               {"backups", "config", "instancegroup"},
		"a/instancegroup": {"cp", "nodes"},
		"a/config":        {},
		"c":               {},
	} {
		got, err := s.Names(t.Context(), prefix)
		if err != nil {
			t.Fatalf("Names(%q): %v", prefix, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("Names(%q) = %q, want %q", prefix, got, want)
		}
	}
}

func listsMany(t *testing.T, s store.Store, k Knobs) {
	var want []string
	var g errgroup.Group
	g.SetLimit(16)
	for i := range k.Many {
		key := fmt.Sprintf("a/instancegroup/nodes-%04d", i)
		want = append(want, key)
		g.Go(func() error {
			_, err := s.Put(t.Context(), key, []byte("x"), store.Any)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	got, err := s.List(t.Context(), "a/instancegroup")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("List of %d (-want +got):\n%s", k.Many, diff)
	}
	below, err := s.Names(t.Context(), "a/instancegroup")
	if err != nil || len(below) != k.Many {
		t.Errorf("Names has %d (%v), want %d", len(below), err, k.Many)
	}
}

func badKeys(t *testing.T, s store.Store, _ Knobs) {
	ctx := t.Context()
	for _, key := range []string{"", "/a", "a/", "a//b", "..", "../a", "a/../../b", "a/./b", ".lock", "a/.tmp1", `a\b`, "a\x00b", "a\nb", "\xff", strings.Repeat("k", 901)} {
		_, err := s.Get(ctx, key)
		refused(t, "Get", key, err)
		_, err = s.Put(ctx, key, []byte("x"), store.Any)
		refused(t, "Put", key, err)
		refused(t, "Delete", key, s.Delete(ctx, key, store.Any))
		if key != "" {
			_, err = s.List(ctx, key)
			refused(t, "List", key, err)
			_, err = s.Names(ctx, key)
			refused(t, "Names", key, err)
		}
	}
	if keys, err := s.List(ctx, ""); err != nil || len(keys) > 0 {
		t.Errorf("bad keys left %q (%v)", keys, err)
	}
}

func refused(t *testing.T, verb, key string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s(%.40q): %v; want a refusal", verb, key, err)
	}
}

func contextEnded(t *testing.T, s store.Store, _ Knobs) {
	put(t, s, "a/config", "x", store.Absent)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "a/config")
	wantError(t, "Get", err, context.Canceled)
	_, err = s.Put(ctx, "a/config", []byte("y"), store.Any)
	wantError(t, "Put", err, context.Canceled)
	wantError(t, "Delete", s.Delete(ctx, "a/config", store.Any), context.Canceled)
	_, err = s.List(ctx, "a")
	wantError(t, "List", err, context.Canceled)
	_, err = s.Names(ctx, "a")
	wantError(t, "Names", err, context.Canceled)
	wantObject(t, s, "a/config", "x", "")
}

func loseNothing(t *testing.T, s store.Store, k Knobs) {
	put(t, s, "a/config", "0", store.Absent)
	var wg sync.WaitGroup
	errs := make([]error, k.Editors)
	for i := range k.Editors {
		wg.Go(func() { errs[i] = increment(t.Context(), s, "a/config") })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	o, err := s.Get(t.Context(), "a/config")
	if err != nil {
		t.Fatal(err)
	}
	got, err := strconv.Atoi(string(o.Data))
	if err != nil || got < k.Editors || got > k.Editors && !k.LosesResponses {
		t.Errorf("%d editors left %q (%v)", k.Editors, o.Data, err)
	}
}

// increment adds one to the number in an object by compare-and-swap.
func increment(ctx context.Context, s store.Store, key string) error {
	_, err := store.Update(ctx, s, key, func(old []byte) ([]byte, error) {
		n, err := strconv.Atoi(string(old))
		if err != nil {
			return nil, fmt.Errorf("half-written object: %w", err)
		}
		return []byte(strconv.Itoa(n + 1)), nil
	})
	return err
}

func createOne(t *testing.T, s store.Store, _ Knobs) {
	const creators = 20
	var wg sync.WaitGroup
	errs := make([]error, creators)
	for i := range creators {
		wg.Go(func() { _, errs[i] = s.Put(t.Context(), "a/lock", []byte(strconv.Itoa(i)), store.Absent) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("creators %d and %d both made the object", winner, i)
		case err == nil:
			winner = i
		default:
			wantError(t, "Put", err, store.ErrConflict)
		}
	}
	if winner < 0 {
		t.Fatal("nobody made the object")
	}
	wantObject(t, s, "a/lock", strconv.Itoa(winner), "")
}

func copiesData(t *testing.T, s store.Store, _ Knobs) {
	data := []byte("first")
	if _, err := s.Put(t.Context(), "a", data, store.Absent); err != nil {
		t.Fatal(err)
	}
	copy(data, "XXXXX")
	o, err := s.Get(t.Context(), "a")
	if err != nil || !bytes.Equal(o.Data, []byte("first")) {
		t.Fatalf("Get = %q (%v) after the caller's slice changed", o.Data, err)
	}
	copy(o.Data, "YYYYY")
	wantObject(t, s, "a", "first", "")
}
