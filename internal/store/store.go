// Package store is kOps's state store: objects under a base URL, read and
// written with a precondition on the version that was read, so that two writers
// cannot lose an update.
//
// [Store] is the contract of every driver; each driver is a package below this one, and package open lists them. [Layout]
// has the keys of kOps's and Muster's objects; [Read] reads a cluster.
//
// The package is not a file system: there are no directories to make or remove,
// and nothing is renamed. It decides nothing about clusters.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Version is an opaque identifier of an object's content: an ETag, a generation, a hash. Only equality is meaningful.
type Version string

// Preconditions of [Store.Put] and [Store.Delete] besides a version that was read.
const (
	// Absent: the object must not exist.
	Absent Version = ""
	// Any: no precondition. For objects with a single writer.
	Any Version = "*"
)

// MaxSize is the largest object that drivers read, in bytes. Those that Muster reads have a thousandth of that.
const MaxSize = 32 << 20

// Object is an object as read.
type Object struct {
	Key     string
	Data    []byte
	Version Version
}

// Store holds objects by key: one that [CheckKey] accepts, relative to the store's base. Methods retry transient errors a
// few times, within ctx, and are safe for concurrent use. Their errors wrap one of the kinds below, or ctx's error.
type Store interface {
	// URL is the base in kOps's spelling, without credentials.
	URL() string
	// Get reads an object. A missing one is [ErrNotFound].
	Get(ctx context.Context, key string) (Object, error)
	// Put writes an object if the current version is old, and returns the new version. Otherwise it changes nothing and
	// returns [ErrConflict]. Readers never see a partial write.
	Put(ctx context.Context, key string, data []byte, old Version) (Version, error)
	// Delete removes an object if its current version is old. A missing object is [ErrNotFound].
	Delete(ctx context.Context, key string, old Version) error
	// List returns the keys of all objects below prefix (itself a key, or
	// empty), sorted.
	List(ctx context.Context, prefix string) ([]string, error)
	// Names returns the names directly below prefix, sorted: of objects and of common prefixes. It does not list what is
	// below those, so that it is cheap at the top of a store with years of backups.
	Names(ctx context.Context, prefix string) ([]string, error)
}

// The kinds of error that callers tell apart. Drivers wrap them.
var (
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("changed since it was read")
	ErrDenied    = errors.New("denied")
	ErrTransient = errors.New("no answer")
	// ErrUnsupported: the server does not implement the request, such as a precondition.
	ErrUnsupported = errors.New("not supported")
)

// Fault is an error that the user can correct.
type Fault struct {
	// Where is the URL of the store or object.
	Where string
	// What is wrong, as one line.
	What string
	// Next is what to do about it.
	Next string
	// Err is the kind or the cause, for errors.Is. May be nil.
	Err error
}

// Error returns "where: what; what to do" on one line.
func (f *Fault) Error() string {
	line := f.Where + ": " + f.What + "; " + f.Next
	return strings.Join(strings.FieldsFunc(line, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// Unwrap returns the kind or the cause.
func (f *Fault) Unwrap() error { return f.Err }

// CheckKey returns an error for an invalid key. Keys are UTF-8 text of at most 900 bytes without control characters or
// backslashes, in components separated by single slashes, none of them empty or beginning with a dot.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("key is empty")
	case len(key) > 900:
		return fmt.Errorf("key %.40q... has %d bytes, over the limit of 900", key, len(key))
	case !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }):
		return fmt.Errorf("key %q has characters that not every store can hold", key)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' {
			return fmt.Errorf("key %q has the part %q; parts are not empty and do not begin with a dot", key, part)
		}
	}
	return nil
}

// CheckPrefix is [CheckKey] for the prefixes of List and Names, which may be empty.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(prefix)
}

// Where names an object of a store in messages.
func Where(s Store, key string) string {
	return strings.TrimSuffix(s.URL(), "/") + "/" + key
}
