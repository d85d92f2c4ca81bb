// Package guard enforces preconditions on servers that may not honour them.
//
// Some S3-compatible servers accept a conditional write and overwrite regardless, or reject conditional requests. [Store]
// finds out with a probe object before its first write. Where preconditions hold it adds nothing. Where they do not,
// Muster's writers exclude each other with a lock made of plain objects, and compare versions under it; kOps does not take
// the lock, so its writes go unnoticed, as they always have.
//
// The lock is Lamport's bakery algorithm: each writer has a ticket, announces that it is choosing, takes a number above
// all that it sees, and waits for smaller ones. It requires of the server only that what was written can be read and
// listed at once. A ticket has an owner and an expiry; one that has not changed for that long, by the waiting writer's own
// clock, belongs to a dead writer and is removed. A write that the server carries out after its writer's ticket expired
// cannot be prevented by such a lock.
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

// Config configures a guarded store.
type Config struct {
	// Notice is called once, with a warning, if preconditions do not hold. Nil discards it.
	Notice func(string)
	// Expiry is how long a ticket is valid without renewal, and so how long a dead writer blocks others. Zero means 30 s.
	Expiry time.Duration
	// Poll is the interval at which a waiting writer checks the queue. Zero means 200 ms.
	Poll time.Duration
}

// Store guards another store. Make one with [New].
type Store struct {
	store.Store
	config  Config
	owner   string
	writing chan struct{} // semaphore of one: writers of this process queue here first

	probing chan struct{} // semaphore of one: guards the fields below, and is held during the probe
	probed  bool
	trusted bool
}

// New returns a store that enforces preconditions on inner.
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
	host, _ := os.Hostname() // informational
	return &Store{Store: inner, config: c, owner: fmt.Sprintf("%s, process %d", host, os.Getpid()), writing: make(chan struct{}, 1), probing: make(chan struct{}, 1)}
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := store.CheckKey(key); err != nil {
		return "", err
	}
	trusted, err := s.trusts(ctx, clusterOf(key))
	if err != nil {
		return "", err
	}
	if trusted || old == store.Any {
		return s.Store.Put(ctx, key, data, old)
	}
	var version store.Version
	err = s.locked(ctx, clusterOf(key), func(ctx context.Context) error {
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
	trusted, err := s.trusts(ctx, clusterOf(key))
	if err != nil {
		return err
	}
	if trusted || old == store.Any {
		return s.Store.Delete(ctx, key, old)
	}
	return s.locked(ctx, clusterOf(key), func(ctx context.Context) error {
		if _, err := s.Store.Get(ctx, key); err != nil {
			return err
		}
		if err := s.compare(ctx, "delete", key, old); err != nil {
			return err
		}
		return s.Store.Delete(ctx, key, store.Any)
	})
}

// compare checks the precondition. The lock is held.
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

// clusterOf returns the layout of the cluster that a key belongs to, or of muster for a key without one.
func clusterOf(key string) store.Layout {
	cluster, _, ok := strings.Cut(key, "/")
	if !ok {
		cluster = "muster"
	}
	return store.Layout(cluster)
}

// trusts reports whether the server honours preconditions. The first call probes.
func (s *Store) trusts(ctx context.Context, cluster store.Layout) (bool, error) {
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

// probe tries every precondition on a unique object. An inconclusive result is an error.
func (s *Store) probe(ctx context.Context, key string) (trusted bool, err error) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Expiry)
		defer cancel()
		if deleteErr := s.Store.Delete(ctx, key, store.Any); deleteErr != nil && !errors.Is(deleteErr, store.ErrNotFound) && err == nil {
			err = deleteErr
		}
	}()
	first, err := s.Store.Put(ctx, key, []byte("1"), store.Absent)
	if err != nil {
		return false, s.inconclusivePut(ctx, key, "1", err)
	}
	if _, err = s.Store.Put(ctx, key, []byte("2"), store.Absent); !errors.Is(err, store.ErrConflict) {
		return false, inconclusive(err)
	}
	second, err := s.Store.Put(ctx, key, []byte("2"), first)
	if err != nil {
		return false, s.inconclusivePut(ctx, key, "2", err)
	}
	if _, err = s.Store.Put(ctx, key, []byte("3"), first); !errors.Is(err, store.ErrConflict) {
		return false, inconclusive(err)
	}
	if err = s.Store.Delete(ctx, key, first); !errors.Is(err, store.ErrConflict) {
		return false, inconclusive(err)
	}
	err = s.Store.Delete(ctx, key, second)
	if errors.Is(err, store.ErrNotFound) {
		err = nil // the answer to an earlier attempt was lost
	}
	return err == nil, inconclusive(err)
}

// inconclusivePut is [inconclusive] for a write that nobody else can conflict with. If the object holds what was written,
// the driver repeated a write whose answer was lost: a server that honours preconditions answers just so. To take it for
// one that does not would let this writer overwrite others, who do not wait for tickets.
func (s *Store) inconclusivePut(ctx context.Context, key, wrote string, err error) error {
	if !errors.Is(err, store.ErrConflict) {
		return inconclusive(err)
	}
	o, readErr := s.Store.Get(ctx, key)
	switch {
	case readErr == nil && string(o.Data) == wrote:
		return fmt.Errorf("the answer to a write was lost: %w", store.ErrTransient)
	case readErr != nil && !errors.Is(readErr, store.ErrNotFound):
		return readErr
	}
	return nil
}

// inconclusive returns errors that tell nothing about preconditions, and nil for those that do: a conflict where there can
// be none, or a rejection of conditional requests.
func inconclusive(err error) error {
	if errors.Is(err, store.ErrUnsupported) || errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}
