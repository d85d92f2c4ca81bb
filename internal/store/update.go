package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The pause after a conflict is random, up to a bound that doubles from the
// first to the last of these.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Update changes one object and loses nobody else's change: it reads, lets
// change make the new content, writes over what it read, and begins again when
// somebody was faster, until ctx ends. A missing object reads as nil; change
// may be called more than once. It returns what was written.
func Update(ctx context.Context, s Store, key string, change func(old []byte) ([]byte, error)) (Object, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
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
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return Object{}, fmt.Errorf("%w, and %w", err, ctx.Err())
		}
	}
}
