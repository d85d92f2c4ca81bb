// Package killtest kills migrations in tests. It counts the points at which a process
// may die (before and after every write to the state store and every change of the
// cluster) and kills it at one of them. It is for tests only.
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

// ErrKilled is returned by every operation of a killed process.
var ErrKilled = errors.New("killed")

// Fuse counts points and kills the process at one. It is safe for concurrent use.
type Fuse struct {
	// At is the point to die at, from 1; 0 is never.
	At int
	// Kill is called at that point, such as to send SIGKILL. If nil, the process is
	// only cut off from everything, which looks the same from outside.
	Kill func()

	mu     sync.Mutex // guards what follows
	passed int
	dead   bool
}

// Point passes a point at which the process may die.
func (f *Fuse) Point() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return ErrKilled
	}
	if f.passed++; f.passed == f.At {
		f.dead = true
		if f.Kill != nil {
			f.Kill()
		}
		return ErrKilled
	}
	return nil
}

// Around passes a point before and one after a change.
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

// Dead returns [ErrKilled] once the process has died.
func (f *Fuse) Dead() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return ErrKilled
	}
	return nil
}

// Passed returns the number of points so far; a dead process passes none.
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

// Story reduces a journal to its successful outcomes, in order, each once.
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

// Ended appends the end to a story if it is missing: a process may die when that is
// the only entry left to write.
func Ended(story []string) []string {
	if len(story) == 0 || story[len(story)-1] != "ended" {
		story = append(story, "ended")
	}
	return story
}
