// Package killtest kills migrations in tests: it counts the points at which a
// process may die, before and after every write to the state store and every
// change of the world, and lets it die at one of them. It is for tests only.
package killtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/store"
)

// ErrKilled is what everything answers a process that is dead.
var ErrKilled = errors.New("killed")

// Fuse counts points and kills at one. It is safe for concurrent use.
type Fuse struct {
	// At is the point to die at, from 1; 0 is never.
	At int
	// Kill kills really, or does what else belongs to it. nil only cuts the
	// process off from everything, which is what death looks like from outside.
	Kill func()

	mu     sync.Mutex // guards what follows
	passed int
	blown  bool
}

// Point is a point at which the process may die.
func (f *Fuse) Point() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blown {
		return ErrKilled
	}
	if f.passed++; f.passed == f.At {
		f.blown = true
		if f.Kill != nil {
			f.Kill()
		}
		return ErrKilled
	}
	return nil
}

// Around makes two points of a change: before and after.
func (f *Fuse) Around(change func() error) error {
	if err := f.Point(); err != nil {
		return err
	}
	err := change()
	if dead := f.Point(); dead != nil {
		return dead
	}
	return err
}

// Dead is [ErrKilled] once the process has died.
func (f *Fuse) Dead() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blown {
		return ErrKilled
	}
	return nil
}

// Passed counts the points so far; a dead process passes none.
func (f *Fuse) Passed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.passed
}

// Store is the state store of a process that may die.
type Store struct {
	store.Store
	Fuse *Fuse
}

// Get implements [store.Store].
func (s Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := s.Fuse.Dead(); err != nil {
		return store.Object{}, err
	}
	return s.Store.Get(ctx, key)
}

// Put implements [store.Store].
func (s Store) Put(ctx context.Context, key string, data []byte, old store.Version) (v store.Version, err error) {
	err = s.Fuse.Around(func() (err error) {
		v, err = s.Store.Put(ctx, key, data, old)
		return err
	})
	return v, err
}

// Story is a journal as a story: what came out well, in order, each once.
func Story(entries []journal.Entry) (story []string) {
	for _, e := range entries {
		line := strings.TrimSpace(e.Step + " " + e.Action + " " + e.Result)
		switch {
		case e.Kind == journal.Outcome && e.Result == "done" && !slices.Contains(story, line):
			story = append(story, line)
		case e.Kind == journal.Ended && e.Result == "done":
			story = append(story, "ended")
		}
	}
	return story
}

// Ended is a story with its end, of which a process may have been robbed that had
// nothing left to do but to say so.
func Ended(story []string) []string {
	if len(story) == 0 || story[len(story)-1] != "ended" {
		story = append(story, "ended")
	}
	return story
}
