package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The backoff after a conflict is random, up to a bound that doubles from minBackoff to maxBackoff.
const (
	minBackoff = 10 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Update changes one object by compare-and-swap: it reads the object, lets change compute the new content, and writes it
// over the version that was read. After a conflict it starts again, until ctx ends. A missing object reads as nil; change
// may be called more than once. It returns the object as written.
func Update(ctx context.Context, s Store, key string, change func(old []byte) ([]byte, error)) (Object, error) {
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		o, err := s.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Object{}, err
		}
		data, err := change(o.Data)
		if err != nil {
			return Object{}, err
		}
		version, err := s.Put(ctx, key, data, o.Version)
		if err == nil {
			return Object{Key: key, Data: data, Version: version}, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Object{}, err
		}
		select {
		case <-time.After(rand.N(backoff)):
		case <-ctx.Done():
			return Object{}, fmt.Errorf("%w, and %w", err, ctx.Err())
		}
	}
}
