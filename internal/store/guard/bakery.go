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

// ticket is a writer's place in the line.
type ticket struct {
	Owner string `json:"owner"`
	// Number is the place; 0 while the writer is choosing it.
	Number uint64 `json:"number"`
	// Renewed counts renewals, so that one that is alive looks different each
	// time.
	Renewed uint64 `json:"renewed"`
	// Expires is for people: what counts is how long a ticket stays the same.
	Expires time.Time `json:"expires"`
}

// line is one writer waiting for its turn.
type line struct {
	*Store
	prefix string
	id     string
	mine   ticket
	wrote  time.Time // when mine was last written
	seen   map[string]sighting
}

// sighting is when another's ticket was first seen as it is.
type sighting struct {
	version store.Version
	since   time.Time
}

// locked runs do while no other writer of the cluster runs its own. do gets as
// much time as its ticket is surely good for.
func (s *Store) locked(ctx context.Context, cluster store.Layout, do func(context.Context) error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	l := &line{Store: s, prefix: cluster.Muster("writers"), id: rand.Text(), seen: map[string]sighting{}}
	l.mine.Owner = s.owner
	defer l.leave(ctx)
	if err := l.wait(ctx); err != nil {
		return fmt.Errorf("wait for other writers of %s: %w", store.Where(s, string(cluster)), err)
	}
	ctx, cancel := context.WithDeadline(ctx, l.wrote.Add(s.config.Expiry/2))
	defer cancel()
	return do(ctx)
}

// wait takes a number and returns when it is up.
func (l *line) wait(ctx context.Context) error {
	if err := l.write(ctx); err != nil {
		return err
	}
	others, err := l.others(ctx)
	if err != nil {
		return err
	}
	for _, t := range others {
		l.mine.Number = max(l.mine.Number, t.Number)
	}
	l.mine.Number++
	if err := l.write(ctx); err != nil {
		return err
	}
	for {
		others, err := l.others(ctx)
		if err != nil {
			return err
		}
		first := true
		for id, t := range others {
			// A number being chosen, 0, is smaller than any.
			if t.Number < l.mine.Number || t.Number == l.mine.Number && id < l.id {
				first = false
			}
		}
		if time.Since(l.wrote) > l.config.Expiry/4 {
			if err := l.write(ctx); err != nil {
				return err
			}
		} else if first {
			return nil
		}
		if first {
			continue // the renewal took time: look once more
		}
		select {
		case <-time.After(l.config.Poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write writes our own ticket.
func (l *line) write(ctx context.Context) error {
	at := time.Now()
	l.mine.Renewed++
	l.mine.Expires = at.Add(l.config.Expiry).UTC().Truncate(time.Second)
	data, err := json.Marshal(l.mine)
	if err != nil {
		return err
	}
	_, err = l.Store.Store.Put(ctx, l.prefix+"/"+l.id, data, store.Any)
	l.wrote = at
	return err
}

// others returns the living tickets but our own, and removes the dead.
func (l *line) others(ctx context.Context) (map[string]ticket, error) {
	keys, err := l.List(ctx, l.prefix)
	if err != nil {
		return nil, err
	}
	others := make(map[string]ticket)
	for _, key := range keys {
		id := path.Base(key)
		if id == l.id || strings.Count(key, "/") != strings.Count(l.prefix, "/")+1 {
			continue
		}
		o, err := l.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if l.seen[id].version != o.Version {
			l.seen[id] = sighting{o.Version, time.Now()}
		}
		if time.Since(l.seen[id].since) > l.config.Expiry {
			if err := l.Store.Store.Delete(ctx, key, store.Any); err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			continue
		}
		// A ticket that cannot be read is one being chosen: it blocks until it
		// changes or expires.
		var t ticket
		_ = json.Unmarshal(o.Data, &t)
		others[id] = t
	}
	return others, nil
}

// leave gives the ticket back, also when the caller's context has ended.
func (l *line) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.Expiry)
	defer cancel()
	_ = l.Store.Store.Delete(ctx, l.prefix+"/"+l.id, store.Any) // else it expires
}
