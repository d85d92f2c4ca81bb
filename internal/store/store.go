// Package store is kOps's state store: objects under a base URL, read and
// written with a precondition on the version that was read, so that two writers
// cannot lose an update.
//
// [Store] is what every driver does; each driver is a package below this one,
// and package open is the one list of them. [Layout] knows where kOps keeps
// what, and where Muster's own objects live; [Read] puts a cluster together.
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

// MaxSize is the largest object that drivers read, in bytes. What decides how
// nodes find the API has a thousandth of that.
const MaxSize = 32 << 20

// Object is what was read.
type Object struct {
	Key     string
	Data    []byte
	Version Version
}

// Store holds objects by key: what [CheckKey] lets through, relative to the
// store's base. Methods try what is transient a few times, for as long as ctx
// allows, and are safe for concurrent use. Their errors wrap one of the kinds below, or ctx's own.
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
	// List returns the keys of all objects below prefix (itself a key, or
	// empty), sorted.
	List(ctx context.Context, prefix string) ([]string, error)
	// Names returns the names directly below prefix, sorted: of objects, and of
	// what has objects below it. It does not look at those, so the top of a
	// store with years of backups is cheap to ask for.
	Names(ctx context.Context, prefix string) ([]string, error)
}

// The kinds of error that callers tell apart. Drivers wrap them.
var (
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("changed since it was read")
	ErrDenied    = errors.New("denied")
	ErrTransient = errors.New("no answer")
	// ErrUnsupported: the store does not know what was asked, such as a
	// precondition.
	ErrUnsupported = errors.New("not supported")
)

// Fault is an error that the person at the keyboard can mend.
type Fault struct {
	// Where is the URL or object that is meant.
	Where string
	// What is wrong, in one line.
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

// CheckKey refuses what is no key: keys are UTF-8 text of at most 900 bytes
// without control characters or backslashes, in components separated by single
// slashes, none of them empty or beginning with a dot.
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

// CheckPrefix is [CheckKey] for what List and Names take: empty means all.
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
