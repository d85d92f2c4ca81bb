package guard_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/guard"
	"github.com/muster-dev/muster/internal/store/mem"
	"github.com/muster-dev/muster/internal/store/storetest"
)

// lenient is a server that ignores or rejects some preconditions.
type lenient struct {
	store.Store
	faults

	mu   sync.Mutex // guards puts
	puts int
}

type faults struct {
	ignoresWrites, ignoresDeletes, refuses bool
	latency                                time.Duration // at most, of each call
}

func (c *lenient) pause() {
	if c.latency > 0 {
		time.Sleep(rand.N(c.latency))
	}
}

func (c *lenient) Get(ctx context.Context, key string) (store.Object, error) {
	c.pause()
	defer c.pause()
	return c.Store.Get(ctx, key)
}

func (c *lenient) List(ctx context.Context, prefix string) ([]string, error) {
	c.pause()
	defer c.pause()
	return c.Store.List(ctx, prefix)
}

func (c *lenient) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	c.mu.Lock()
	c.puts++
	c.mu.Unlock()
	c.pause()
	defer c.pause()
	if c.refuses && old != store.Any {
		return "", fmt.Errorf("write %s: %w", key, store.ErrUnsupported)
	}
	if c.ignoresWrites {
		old = store.Any
	}
	return c.Store.Put(ctx, key, data, old)
}

func (c *lenient) Delete(ctx context.Context, key string, old store.Version) error {
	c.pause()
	defer c.pause()
	if c.ignoresDeletes {
		old = store.Any
	}
	return c.Store.Delete(ctx, key, old)
}

func TestStoreOverServersOfEveryKind(t *testing.T) {
	for name, server := range map[string]faults{
		"one that honours all":      {},
		"one that ignores all":      {ignoresWrites: true, ignoresDeletes: true},
		"one that ignores deletes":  {ignoresDeletes: true},
		"one that rejects them":     {refuses: true, ignoresDeletes: true},
		"one that ignores creation": {ignoresWrites: true},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, storetest.Knobs{Editors: 40}, func(*testing.T) store.Store {
				inner := &lenient{Store: &mem.Store{Name: "test"}, faults: server}
				return guard.New(inner, guard.Config{Poll: time.Millisecond})
			})
		})
	}
}

func TestAServerThatHonoursAllIsProbedOnceAndThenLeftAlone(t *testing.T) {
	inner := &lenient{Store: &mem.Store{}}
	said := 0
	s := guard.New(inner, guard.Config{Notice: func(string) { said++ }})
	if _, err := s.Put(t.Context(), "a/config", nil, store.Absent); err != nil {
		t.Fatal(err)
	}
	probing := inner.puts
	for range 5 {
		if _, err := s.Put(t.Context(), "a/config", nil, store.Any); err != nil {
			t.Fatal(err)
		}
	}
	if inner.puts != probing+5 || said != 0 {
		t.Errorf("%d writes for 5, %d notices", inner.puts-probing, said)
	}
	if keys, err := inner.List(t.Context(), ""); err != nil || !slices.Equal(keys, []string{"a/config"}) {
		t.Errorf("it leaves %q (%v)", keys, err)
	}
}

func TestAServerThatHonoursNothingIsReportedOnce(t *testing.T) {
	var said []string
	inner := &lenient{Store: &mem.Store{Name: "x"}, faults: faults{ignoresWrites: true}}
	s := guard.New(inner, guard.Config{Notice: func(text string) { said = append(said, text) }})
	for i := range 3 {
		if _, err := s.Put(t.Context(), fmt.Sprintf("a/%d", i), nil, store.Absent); err != nil {
			t.Fatal(err)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "memory://x does not honour conditional writes") {
		t.Errorf("said %q", said)
	}
	if keys, err := inner.List(t.Context(), ""); err != nil || len(keys) != 3 {
		t.Errorf("it leaves %q (%v)", keys, err)
	}
}

func TestAnInconclusiveProbeIsAnErrorAndRepeated(t *testing.T) {
	inner := &flaky{Store: &mem.Store{}, left: 1}
	s := guard.New(inner, guard.Config{})
	if _, err := s.Put(t.Context(), "a/config", nil, store.Absent); !errors.Is(err, store.ErrDenied) {
		t.Errorf("Put = %v, want denied", err)
	}
	if _, err := s.Put(t.Context(), "a/config", nil, store.Absent); err != nil {
		t.Errorf("Put = %v once it is allowed", err)
	}
}

type flaky struct {
	store.Store
	left int
}

func (f *flaky) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if f.left > 0 {
		f.left--
		return "", store.ErrDenied
	}
	return f.Store.Put(ctx, key, data, old)
}

// stuck is a server that never responds to a write.
type stuck struct{ store.Store }

func (stuck) Put(ctx context.Context, _ string, _ []byte, _ store.Version) (store.Version, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

func TestAWriterDoesNotWaitForAnothersProbeBeyondItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := guard.New(stuck{&mem.Store{}}, guard.Config{})
		put := func(timeout time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err := s.Put(ctx, "a/config", nil, store.Absent)
			return err
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = put(time.Hour) })
		synctest.Wait()
		began := time.Now()
		if err := put(time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put = %v; want the deadline", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v; want 1 s", took)
		}
		wg.Wait()
	})
}

// TestWritersOfManyProcessesLoseNothing has a server with latency on both sides
// of every call, and writers that know nothing of each other. With the long
// latency the queue takes many times the expiry of a ticket.
func TestWritersOfManyProcessesLoseNothing(t *testing.T) {
	for _, latency := range []time.Duration{0, 80 * time.Millisecond, 400 * time.Millisecond} {
		t.Run(fmt.Sprint("at most ", latency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { raceWriters(t, latency) })
		})
	}
}

func raceWriters(t *testing.T, latency time.Duration) {
	const processes, edits = 12, 4
	inner := &lenient{Store: &mem.Store{}, faults: faults{ignoresWrites: true, ignoresDeletes: true, latency: latency}}
	if _, err := inner.Put(t.Context(), "a/config", []byte("0"), store.Any); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, processes)
	for i := range processes {
		s := guard.New(inner, guard.Config{})
		wg.Go(func() {
			for range edits {
				_, err := store.Update(t.Context(), s, "a/config", func(old []byte) ([]byte, error) {
					n, err := strconv.Atoi(string(old))
					return []byte(strconv.Itoa(n + 1)), err
				})
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	wg.Wait()
	o, err := inner.Get(t.Context(), "a/config")
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	if string(o.Data) != strconv.Itoa(processes*edits) {
		t.Errorf("%d edits left %s", processes*edits, o.Data)
	}
	if keys, err := inner.List(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("left behind: %q (%v)", keys, err)
	}
}

func TestADeadWriterBlocksOthersUntilItsTicketExpires(t *testing.T) {
	for name, left := range map[string]string{
		"one that had a number":         `{"owner":"dead","number":1,"renewed":2}`,
		"one that was choosing":         `{"owner":"dead","number":0,"renewed":1}`,
		"one whose ticket is no ticket": "{",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &lenient{Store: &mem.Store{}, faults: faults{ignoresWrites: true}}
				if _, err := inner.Put(t.Context(), "a/muster/writers/DEAD", []byte(left), store.Any); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, err := guard.New(inner, guard.Config{Expiry: 10 * time.Second}).Put(t.Context(), "a/config", nil, store.Absent); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
					t.Errorf("it took %v, want the expiry of 10 s", took)
				}
				if keys, _ := inner.List(t.Context(), ""); !slices.Equal(keys, []string{"a/config"}) {
					t.Errorf("left: %q", keys)
				}
			})
		})
	}
}

func TestAWriterThatGivesUpDeletesItsTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &lenient{Store: &mem.Store{Name: "x"}, faults: faults{ignoresWrites: true}}
		if _, err := inner.Put(t.Context(), "a/muster/writers/OTHER", []byte(`{"number":1}`), store.Any); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := guard.New(inner, guard.Config{}).Put(ctx, "a/config", nil, store.Absent)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for other writers of memory://x/a") {
			t.Errorf("Put = %v", err)
		}
		if keys, _ := inner.List(t.Context(), ""); !slices.Equal(keys, []string{"a/muster/writers/OTHER"}) {
			t.Errorf("left: %q", keys)
		}
	})
}

// lossy is a server that honours preconditions; the answer to its n-th write is lost, and the repeated one conflicts.
type lossy struct {
	store.Store
	lose int
}

func (l *lossy) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if l.lose--; l.lose == 0 {
		if _, err := l.Store.Put(ctx, key, data, old); err != nil {
			return "", err
		}
	}
	return l.Store.Put(ctx, key, data, old)
}

func TestALostAnswerDoesNotMakeAServerOneThatIgnoresPreconditions(t *testing.T) {
	for lose := 1; lose <= 4; lose++ {
		inner := &lossy{Store: &mem.Store{}, lose: lose}
		s := guard.New(inner, guard.Config{Notice: func(text string) { t.Errorf("answer %d is lost: %s", lose, text) }})
		for try := range 2 {
			if _, err := s.Put(t.Context(), "a/config", nil, store.Any); err == nil {
				break
			} else if !errors.Is(err, store.ErrTransient) || try > 0 {
				t.Errorf("answer %d is lost: %v; want one that says to try again", lose, err)
			}
		}
		if keys, err := inner.List(t.Context(), ""); err != nil || !slices.Equal(keys, []string{"a/config"}) {
			t.Errorf("answer %d is lost: left %q, %v", lose, keys, err)
		}
	}
}
