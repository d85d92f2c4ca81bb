// Package guard makes sure of preconditions where a server may not honour them.
//
// Some look-alikes of S3 accept a conditional write and overwrite all the same,
// or refuse to hear of conditions. [Store] finds out with a probe object before
// its first write. Where preconditions hold it adds nothing. Where they do not,
// writers of Muster take turns by a lock made of plain objects, and compare
// versions under it; kOps knows no such lock and goes unseen, as it always has.
//
// The lock is Lamport's bakery: each writer has a ticket of its own, says that
// it is choosing, takes a number above all that it sees, and waits for those
// with smaller ones. It needs no condition of the server but that what is
// written can be read and listed at once. A ticket names its owner and when it
// expires; one that has not changed for that long, by the waiting writer's own
// clock, is that of a dead writer and is removed. A write that a server still
// carries out after its writer's ticket has expired is beyond any such lock.
package guard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/store"
)

// Config says how a store is guarded.
type Config struct {
	// Notice takes the sentence that says that preconditions do not hold, once.
	// Nil drops it.
	Notice func(string)
	// Expiry is how long a ticket is good without being renewed; a writer that
	// dies holds up others for so long. Zero means 30 s.
	Expiry time.Duration
	// Poll is how often a waiting writer looks. Zero means 200 ms.
	Poll time.Duration
}

// Store guards another store. Make one with [New].
type Store struct {
	store.Store
	config Config
	owner  string
	turn   chan struct{} // semaphore of one: writers of this process queue here first

	probing chan struct{} // semaphore of one: guards the fields below, and is held during the probe
	probed  bool
	trusted bool
}

// New guards a store.
func New(inner store.Store, c Config) *Store {
	if c.Notice == nil {
		c.Notice = func(string) {}
	}
	if c.Expiry == 0 {
		c.Expiry = 30 * time.Second
	}
	if c.Poll == 0 {
		c.Poll = 200 * time.Millisecond
	}
	host, _ := os.Hostname() // for people only
	return &Store{Store: inner, config: c, owner: fmt.Sprintf("%s, process %d", host, os.Getpid()), turn: make(chan struct{}, 1), probing: make(chan struct{}, 1)}
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := store.CheckKey(key); err != nil {
		return "", err
	}
	trusted, err := s.trust(ctx, top(key))
	if err != nil {
		return "", err
	}
	if trusted || old == store.Any {
		return s.Store.Put(ctx, key, data, old)
	}
	var version store.Version
	err = s.locked(ctx, top(key), func(ctx context.Context) error {
		if err := s.compare(ctx, "write", key, old); err != nil {
			return err
		}
		version, err = s.Store.Put(ctx, key, data, store.Any)
		return err
	})
	return version, err
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, old store.Version) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	trusted, err := s.trust(ctx, top(key))
	if err != nil {
		return err
	}
	if trusted || old == store.Any {
		return s.Store.Delete(ctx, key, old)
	}
	return s.locked(ctx, top(key), func(ctx context.Context) error {
		if _, err := s.Store.Get(ctx, key); err != nil {
			return err
		}
		if err := s.compare(ctx, "delete", key, old); err != nil {
			return err
		}
		return s.Store.Delete(ctx, key, store.Any)
	})
}

// compare is the precondition, asked by ourselves.
func (s *Store) compare(ctx context.Context, verb, key string, old store.Version) error {
	o, err := s.Store.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if o.Version != old {
		return fmt.Errorf("%s %s: %w", verb, store.Where(s, key), store.ErrConflict)
	}
	return nil
}

// top is the cluster that a key belongs to.
func top(key string) store.Layout {
	cluster, _, ok := strings.Cut(key, "/")
	if !ok {
		cluster = "muster"
	}
	return store.Layout(cluster)
}

// trust reports whether preconditions hold, and finds out the first time.
func (s *Store) trust(ctx context.Context, cluster store.Layout) (bool, error) {
	select {
	case s.probing <- struct{}{}:
		defer func() { <-s.probing }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if s.probed {
		return s.trusted, nil
	}
	trusted, err := s.probe(ctx, cluster.Muster("probe", rand.Text()))
	if err != nil {
		return false, fmt.Errorf("find out if %s honours conditional writes: %w", s.URL(), err)
	}
	s.probed, s.trusted = true, trusted
	if !trusted {
		s.config.Notice(fmt.Sprintf("%s does not honour conditional writes; muster takes turns by a lock under %s instead, which other programs do not know", s.URL(), cluster.Muster("writers")))
	}
	return trusted, nil
}

// probe tries every precondition on an object that nobody else knows. An answer
// that decides nothing is an error.
func (s *Store) probe(ctx context.Context, key string) (trusted bool, err error) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Expiry)
		defer cancel()
		if gone := s.Store.Delete(ctx, key, store.Any); gone != nil && !errors.Is(gone, store.ErrNotFound) && err == nil {
			err = gone
		}
	}()
	first, err := s.Store.Put(ctx, key, []byte("1"), store.Absent)
	if err != nil {
		return false, undecided(err)
	}
	if _, err = s.Store.Put(ctx, key, []byte("2"), store.Absent); !errors.Is(err, store.ErrConflict) {
		return false, undecided(err)
	}
	second, err := s.Store.Put(ctx, key, []byte("2"), first)
	if err != nil {
		return false, undecided(err)
	}
	if _, err = s.Store.Put(ctx, key, []byte("3"), first); !errors.Is(err, store.ErrConflict) {
		return false, undecided(err)
	}
	if err = s.Store.Delete(ctx, key, first); !errors.Is(err, store.ErrConflict) {
		return false, undecided(err)
	}
	return true, undecided(s.Store.Delete(ctx, key, second))
}

// undecided keeps the errors that say nothing about preconditions. A conflict
// where none can be, or a refusal to hear of conditions, does say something.
func undecided(err error) error {
	if errors.Is(err, store.ErrUnsupported) || errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}
