// Package store is kOps's state store: objects under a base URL, read and
// written with a precondition on the version that was read, so that two writers
// cannot lose an update.
//
// [Store] is what every driver does; each driver is a package below this one.
// [Layout] knows where kOps keeps what, and where Muster's own objects live.
package store

import (
	"context"
	"errors"
)

// Version is a driver's own name for the content of an object: an ETag, a
// generation, a hash. Only equality means anything.
type Version string

// Preconditions of [Store.Put] and [Store.Delete] besides a version that was read.
const (
	// Absent: the object must not exist.
	Absent Version = ""
	// Any: whatever is there is overwritten. For objects that nobody else writes.
	Any Version = "*"
)

// Object is what was read.
type Object struct {
	Key     string
	Data    []byte
	Version Version
}

// Store holds objects by key: slash-separated, relative to the store's base,
// without "..", never empty. Methods retry what is transient until ctx ends and
// are safe for concurrent use.
type Store interface {
	// URL is the base in kOps's spelling, without credentials.
	URL() string
	// Get reads an object. A missing one is [ErrNotFound].
	Get(ctx context.Context, key string) (Object, error)
	// Put writes an object whole if what is there has version old, and returns
	// the new version. Otherwise it changes nothing and returns [ErrConflict].
	// An object is never seen half written.
	Put(ctx context.Context, key string, data []byte, old Version) (Version, error)
	// Delete removes an object if what is there has version old. A missing
	// object is [ErrNotFound].
	Delete(ctx context.Context, key string, old Version) error
	// List returns the keys below prefix (itself a key, or empty), sorted.
	List(ctx context.Context, prefix string) ([]string, error)
}

// The kinds of error that callers tell apart. Drivers wrap them.
var (
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("changed since it was read")
	ErrDenied    = errors.New("denied")
	ErrTransient = errors.New("no answer")
)
