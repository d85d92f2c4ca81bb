// Package mem is a state store in memory, for tests and trials. Nothing outlives the process.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/muster-dev/muster/internal/store"
)

// Store is a store in memory. The zero value is empty and ready.
type Store struct {
	// Name follows memory:// in the URL.
	Name string

	mu      sync.Mutex // guards the fields below
	objects map[string]object
	writes  uint64 // number of writes, used as version
}

type object struct {
	data    []byte
	version store.Version
}

// URL implements store.Store.
func (s *Store) URL() string { return "memory://" + s.Name }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := check(ctx, key); err != nil {
		return store.Object{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return store.Object{}, fmt.Errorf("read %s: %w", store.Where(s, key), store.ErrNotFound)
	}
	return store.Object{Key: key, Data: bytes.Clone(o.data), Version: o.version}, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := check(ctx, key); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old != store.Any && s.objects[key].version != old {
		return "", fmt.Errorf("write %s: %w", store.Where(s, key), store.ErrConflict)
	}
	if s.objects == nil {
		s.objects = make(map[string]object)
	}
	s.writes++
	version := store.Version(strconv.FormatUint(s.writes, 10))
	s.objects[key] = object{data: append([]byte{}, data...), version: version}
	return version, nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, old store.Version) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	switch {
	case !ok:
		return fmt.Errorf("delete %s: %w", store.Where(s, key), store.ErrNotFound)
	case old != store.Any && o.version != old:
		return fmt.Errorf("delete %s: %w", store.Where(s, key), store.ErrConflict)
	}
	delete(s.objects, key)
	return nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	return s.below(ctx, prefix, func(_, key string) string { return key })
}

// Names implements store.Store.
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	return s.below(ctx, prefix, func(rest, _ string) string {
		name, _, _ := strings.Cut(rest, "/")
		return name
	})
}

// below returns name of each key below prefix, sorted, without duplicates.
func (s *Store) below(ctx context.Context, prefix string, name func(rest, key string) string) ([]string, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if prefix != "" {
		prefix += "/"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for key := range s.objects {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, name(rest, key))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func check(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return ctx.Err()
}
