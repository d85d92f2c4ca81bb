// Package lock is a cluster's lock: an object in its state store that says who is changing the cluster, why, and until
// when, with a fencing token that only ever grows.
//
// kOps's state store has no lock of its own. This one keeps two of Muster's
// migrations apart; it cannot keep kOps away, which is why a migration also
// compares what it sees with what it planned.
//
// A lock that its owner does not renew expires. The token makes that safe: the next owner gets a greater one, and
// everything written under the lock carries it (see package journal), so that a suspended owner cannot go on. The object
// stays when the lock is released, because the token must not start over. Clocks need not agree: a lock that looks expired
// is taken only once nobody has renewed it for a while.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/store"
)

// Term is how long a lock lasts without renewal; it is renewed three times per term. A longer term keeps others waiting
// after a crash; a shorter one loses the lock while the state store is slow.
const Term = 2 * time.Minute

// maxObject bounds what is parsed, in bytes: a lock has a few hundred.
const maxObject = 64 << 10

// State is the content of the object.
type State struct {
	Owner    string    `json:"owner"`  // user, host and process
	Reason   string    `json:"reason"` // for what
	Since    time.Time `json:"since"`
	Expires  time.Time `json:"expires"`
	Token    uint64    `json:"token"`
	Released bool      `json:"released,omitempty"`
}

// Held reports whether the lock is held at the given time.
func (s State) Held(now time.Time) bool { return !s.Released && now.Before(s.Expires) }

// String describes the holder, for people.
func (s State) String() string {
	return fmt.Sprintf("%s since %s (%s), until %s unless renewed",
		s.Owner, s.Since.Format(time.RFC3339), s.Reason, s.Expires.Format(time.RFC3339))
}

// HeldError says that another owner holds the lock.
type HeldError struct {
	State State
	// Skewed: by this machine's clock the lock had expired, and yet it is renewed.
	Skewed bool
}

func (e *HeldError) Error() string {
	if e.Skewed {
		return "locked by " + e.State.String() + "; it is renewed although it has expired by this machine's clock: see which of the two clocks is wrong"
	}
	return "locked by " + e.State.String()
}

// ErrLost says that the lock expired or was broken while it was held.
var ErrLost = errors.New("the lock was lost")

// Lock is a lock that is held. Its methods are safe for concurrent use, except
// that Keep and Release must not overlap.
type Lock struct {
	store   store.Store
	key     string
	state   State
	version store.Version
}

// WatchTime is how long a lock that has expired without being released is watched before it is taken. Clocks differ, and
// a holder that lives renews it within that time.
const WatchTime = Term/3 + 10*time.Second

// watchInterval is how often a lock that is watched is read.
const watchInterval = 5 * time.Second

// Abandoned reports whether the lock has expired without being released, by the given time: [Acquire] watches it first.
func (s State) Abandoned(now time.Time) bool { return s.Token > 0 && !s.Released && !s.Held(now) }

// Acquire takes the lock at key, or returns a [*HeldError]. It waits only for [WatchTime], and that where the lock has
// expired without being released.
func Acquire(ctx context.Context, s store.Store, key, owner, reason string) (*Lock, error) {
	state, version, err := read(ctx, s, key)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	if state.Held(now) {
		return nil, &HeldError{State: state}
	}
	if state.Abandoned(now) {
		if state, version, err = watch(ctx, s, key, state, version); err != nil {
			return nil, err
		}
		now = time.Now().UTC()
	}
	l := &Lock{store: s, key: key, version: version, state: State{
		Owner: owner, Reason: reason, Since: now, Expires: now.Add(Term), Token: state.Token + 1,
	}}
	if err := l.write(ctx); err != nil {
		if errors.Is(err, store.ErrConflict) {
			// Another owner was faster; name it.
			if state, _, readErr := read(ctx, s, key); readErr == nil && state.Held(now) {
				return nil, &HeldError{State: state}
			}
		}
		return nil, fmt.Errorf("take lock %s: %w", key, err)
	}
	return l, nil
}

// watch watches a lock that has expired by this machine's clock. It returns the lock as it is once nobody has renewed it
// for WatchTime, or somebody has released it.
func watch(ctx context.Context, s store.Store, key string, was State, at store.Version) (State, store.Version, error) {
	for began := time.Now(); time.Since(began) < WatchTime; {
		select {
		case <-time.After(watchInterval):
		case <-ctx.Done():
			return was, at, ctx.Err()
		}
		is, version, err := read(ctx, s, key)
		switch {
		case err != nil:
			return was, at, err
		case is.Released:
			return is, version, nil
		case !is.Expires.Equal(was.Expires) || is.Token != was.Token:
			return is, version, &HeldError{State: is, Skewed: !is.Held(time.Now())}
		}
	}
	return was, at, nil
}

// Inspect returns the state of the lock at key; the zero State if there is none.
func Inspect(ctx context.Context, s store.Store, key string) (State, error) {
	state, _, err := read(ctx, s, key)
	return state, err
}

// Break releases the lock at key whoever holds it, and returns its previous state. The previous holder finds out at its
// next renewal, or at its next write under the token.
func Break(ctx context.Context, s store.Store, key string) (State, error) {
	state, version, err := read(ctx, s, key)
	if now := time.Now(); err != nil || !state.Held(now) && !state.Abandoned(now) {
		return state, err
	}
	previous := state
	state.Released = true
	// The next owner's token must exceed that of a write that the previous one may have in flight.
	state.Token++
	l := &Lock{store: s, key: key, version: version, state: state}
	if err := l.write(ctx); err != nil {
		return previous, fmt.Errorf("break lock %s: %w", key, err)
	}
	return previous, nil
}

func read(ctx context.Context, s store.Store, key string) (State, store.Version, error) {
	object, err := s.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return State{}, store.Absent, nil
	}
	if err != nil {
		return State{}, "", fmt.Errorf("read lock %s: %w", key, err)
	}
	var state State
	if len(object.Data) > maxObject {
		return State{}, "", fmt.Errorf("read lock %s: %d bytes are no lock; look at it and remove it if nobody uses it", key, len(object.Data))
	}
	if err := json.Unmarshal(object.Data, &state); err != nil {
		return State{}, "", fmt.Errorf("read lock %s: %w; look at it and remove it if nobody uses it", key, err)
	}
	return state, object.Version, nil
}

// Token returns the fencing token that everything written under the lock carries.
func (l *Lock) Token() uint64 { return l.state.Token }

// Owner returns the owner that was given to Acquire.
func (l *Lock) Owner() string { return l.state.Owner }

// Keep renews the lock until ctx ends, and then returns nil with the lock still held. It returns [ErrLost] as soon as
// another owner has the lock or it could not be renewed before it expired: nothing more may then be done under it.
func (l *Lock) Keep(ctx context.Context) error {
	tick := time.NewTicker(Term / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := l.renew(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, store.ErrConflict):
			return fmt.Errorf("renew lock %s: %w: %w", l.key, ErrLost, err)
		case !time.Now().Before(l.state.Expires):
			return fmt.Errorf("renew lock %s: %w: no answer from the state store before it expired: %w", l.key, ErrLost, err)
		}
	}
}

func (l *Lock) renew(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, l.state.Expires)
	defer cancel()
	previous := l.state.Expires
	l.state.Expires = time.Now().UTC().Add(Term)
	err := l.write(ctx)
	if err != nil {
		l.state.Expires = previous
	}
	return err
}

// Release releases the lock. That it was lost already is not an error.
func (l *Lock) Release(ctx context.Context) error {
	l.state.Released = true
	if err := l.write(ctx); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("release lock %s: %w; it expires by itself at %s", l.key, err, l.state.Expires.Format(time.RFC3339))
	}
	return nil
}

// write stores the state on the condition that the object is as this lock last saw it.
//
// A write whose response was lost, this one or an earlier renewal, appears as a conflict with ourselves. Tokens are
// unique to one acquisition, so an object with ours tells that case apart: it is overwritten once more.
func (l *Lock) write(ctx context.Context) error {
	data, err := json.Marshal(l.state)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	version, err := l.store.Put(ctx, l.key, data, l.version)
	if errors.Is(err, store.ErrConflict) {
		current, currentVersion, readErr := read(ctx, l.store, l.key)
		switch {
		case errors.Is(readErr, store.ErrTransient):
			return readErr // whose the lock is remains unknown
		case readErr != nil || !l.state.sameHolder(current):
			return err
		}
		version, err = l.store.Put(ctx, l.key, data, currentVersion)
	}
	if err != nil {
		return err
	}
	l.version = version
	return nil
}

// sameHolder reports whether o is a state of the same acquisition that was not released.
func (s State) sameHolder(o State) bool {
	return s.Token == o.Token && s.Owner == o.Owner && s.Since.Equal(o.Since) && !o.Released
}
