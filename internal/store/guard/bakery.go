package guard

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/store"
)

// ticket is a writer's place in the queue.
type ticket struct {
	Owner string `json:"owner"`
	// Number is 0 while the writer is choosing it.
	Number uint64 `json:"number"`
	// Renewed counts renewals, so that a live writer's ticket keeps changing.
	Renewed uint64 `json:"renewed"`
	// Expires is for people: what counts is how long a ticket has not changed.
	Expires time.Time `json:"expires"`
}

// waiter is one writer in the queue.
type waiter struct {
	*Store
	prefix  string
	id      string
	ticket  ticket
	written time.Time // when ticket was last written
	seen    map[string]observation
}

// observation is since when another writer's ticket has not changed.
type observation struct {
	version store.Version
	since   time.Time
}

// locked runs do with other writers of the cluster excluded. do's deadline is half the expiry after the last renewal, by
// when the ticket is certain to be valid still.
func (s *Store) locked(ctx context.Context, cluster store.Layout, do func(context.Context) error) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	w := &waiter{Store: s, prefix: cluster.Muster("writers"), id: rand.Text(), seen: map[string]observation{}}
	w.ticket.Owner = s.owner
	defer w.leave(ctx)
	if err := w.wait(ctx); err != nil {
		return fmt.Errorf("wait for other writers of %s: %w", store.Where(s, string(cluster)), err)
	}
	ctx, cancel := context.WithDeadline(ctx, w.written.Add(s.config.Expiry/2))
	defer cancel()
	return do(ctx)
}

// wait takes a number and returns when it is the smallest.
func (w *waiter) wait(ctx context.Context) error {
	if err := w.write(ctx); err != nil {
		return err
	}
	others, err := w.others(ctx)
	if err != nil {
		return err
	}
	for _, t := range others {
		w.ticket.Number = max(w.ticket.Number, t.Number)
	}
	w.ticket.Number++
	if err := w.write(ctx); err != nil {
		return err
	}
	for {
		others, err := w.others(ctx)
		if err != nil {
			return err
		}
		first := true
		for id, t := range others {
			// 0, a number being chosen, is smaller than any.
			if t.Number < w.ticket.Number || t.Number == w.ticket.Number && id < w.id {
				first = false
			}
		}
		if time.Since(w.written) > w.config.Expiry/4 {
			if err := w.write(ctx); err != nil {
				return err
			}
		} else if first {
			return nil
		}
		if first {
			continue // the renewal took time: check again
		}
		select {
		case <-time.After(w.config.Poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write writes or renews our own ticket.
func (w *waiter) write(ctx context.Context) error {
	at := time.Now()
	w.ticket.Renewed++
	w.ticket.Expires = at.Add(w.config.Expiry).UTC().Truncate(time.Second)
	data, err := json.Marshal(w.ticket)
	if err != nil {
		return err
	}
	_, err = w.Store.Store.Put(ctx, w.prefix+"/"+w.id, data, store.Any)
	w.written = at
	return err
}

// others returns the valid tickets of other writers, and removes expired ones.
func (w *waiter) others(ctx context.Context) (map[string]ticket, error) {
	keys, err := w.List(ctx, w.prefix)
	if err != nil {
		return nil, err
	}
	others := make(map[string]ticket)
	for _, key := range keys {
		id := path.Base(key)
		if id == w.id || strings.Count(key, "/") != strings.Count(w.prefix, "/")+1 {
			continue
		}
		o, err := w.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if w.seen[id].version != o.Version {
			w.seen[id] = observation{o.Version, time.Now()}
		}
		if time.Since(w.seen[id].since) > w.config.Expiry {
			if err := w.Store.Store.Delete(ctx, key, store.Any); err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			continue
		}
		// An unreadable ticket counts as number 0: it blocks until it changes or expires.
		var t ticket
		_ = json.Unmarshal(o.Data, &t)
		others[id] = t
	}
	return others, nil
}

// leave deletes the ticket, also when the caller's context has ended.
func (w *waiter) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.config.Expiry)
	defer cancel()
	_ = w.Store.Store.Delete(ctx, w.prefix+"/"+w.id, store.Any) // on failure it expires
}
