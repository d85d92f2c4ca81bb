// Package file is a state store in a directory, as kOps has it under file://.
//
// An object is a file and its version the hash of its content. Muster's writers exclude each other by a lock on
// .muster-lock in the base directory; kOps does not lock, so a write of its own between our comparison and our rename,
// microseconds apart, goes unnoticed. Files are replaced by a rename and synced before a write returns: whenever the
// process is killed, each object is either the old one or the new one. No key and no symbolic link leads out of the base.
// Names that begin with a dot are not objects: they are the lock, and temporary files of killed writers, which the next
// writer of the same object removes.
package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/flock"
	"github.com/muster-dev/muster/internal/store"
)

const (
	lockName = ".muster-lock"
	// lockRetry is the interval at which a writer tries the lock.
	lockRetry = 5 * time.Millisecond
	// Specs may contain secrets such as an overlay's password.
	filePerm, dirPerm = 0o600, 0o700
)

// Store is a store in a directory. Make one with [Open].
type Store struct {
	dir string
	url string
	// writing is a semaphore of one: writers of this process wait here, those of other processes on the lock.
	writing chan struct{}
}

// Open returns the store in an existing directory.
func Open(dir string) (*Store, error) {
	url := "file://" + filepath.ToSlash(dir)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &store.Fault{Where: url, What: "no such directory", Next: "correct the path, or make it with mkdir -p " + dir, Err: store.ErrNotFound}
	case errors.Is(err, fs.ErrPermission):
		return nil, notPermitted(url, "open")
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", url, err)
	case !info.IsDir():
		return nil, &store.Fault{Where: url, What: "is a file", Next: "give the directory that holds the clusters"}
	}
	return &Store{dir: dir, url: url, writing: make(chan struct{}, 1)}, nil
}

// URL implements store.Store.
func (s *Store) URL() string { return s.url }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	var o store.Object
	err := s.withKey(ctx, "read", key, func(root *os.Root) error {
		data, err := read(root, key)
		o = store.Object{Key: key, Data: data, Version: version(data)}
		return err
	})
	if err != nil {
		return store.Object{}, err
	}
	return o, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	err := s.withLock(ctx, "write", key, func(root *os.Root) error {
		err := compare(root, key, old)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
			if old != store.Absent && old != store.Any {
				err = store.ErrConflict
			}
		}
		if err != nil {
			return err
		}
		return write(root, key, data)
	})
	if err != nil {
		return "", err
	}
	return version(data), nil
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, old store.Version) error {
	return s.withLock(ctx, "delete", key, func(root *os.Root) error {
		if err := compare(root, key, old); err != nil {
			return err
		}
		if err := root.Remove(key); err != nil {
			return err
		}
		return syncDir(root, path.Dir(key))
	})
}

// compare returns nil if the object exists and has version old, or old is Any.
func compare(root *os.Root, key string, old store.Version) error {
	data, err := read(root, key)
	switch {
	case isNotFound(err):
		return store.ErrNotFound
	case err != nil:
		return err
	case old != store.Any && version(data) != old:
		return store.ErrConflict
	}
	return nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	err := s.withPrefix(ctx, prefix, func(root *os.Root, start string) error {
		return fs.WalkDir(root.FS(), start, func(name string, d fs.DirEntry, err error) error {
			switch {
			case isNotFound(err): // deleted while we walk
				return nil
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case name != "." && strings.HasPrefix(d.Name(), "."):
				if d.IsDir() {
					return fs.SkipDir
				}
			case !d.IsDir() && name != start:
				keys = append(keys, name)
			}
			return nil
		})
	})
	slices.Sort(keys)
	return keys, err
}

// Names implements store.Store.
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	err := s.withPrefix(ctx, prefix, func(root *os.Root, start string) error {
		info, err := root.Stat(start)
		if err != nil || !info.IsDir() {
			return err
		}
		entries, err := fs.ReadDir(root.FS(), start)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// withPrefix runs do on the directory of a prefix, if there is one.
func (s *Store) withPrefix(ctx context.Context, prefix string, do func(root *os.Root, start string) error) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	start := prefix
	if start == "" {
		start = "."
	}
	err := s.withRoot(ctx, func(root *os.Root) error { return do(root, start) })
	switch {
	case err == nil || isNotFound(err):
		return nil
	case errors.Is(err, fs.ErrPermission):
		if at := new(fs.PathError); errors.As(err, &at) && start != at.Path && filepath.IsLocal(at.Path) {
			prefix = filepath.ToSlash(at.Path) // one below it
		}
		return notPermitted(strings.TrimSuffix(store.Where(s, prefix), "/"), "list")
	}
	return fmt.Errorf("list %s: %w", store.Where(s, prefix), err)
}

// notPermitted is the error of an access that the operating system refuses.
func notPermitted(where, verb string) error {
	return &store.Fault{
		Where: where, What: verb + " is not permitted",
		Next: "run as a user that may, or change the owner of the directory", Err: store.ErrDenied,
	}
}

// withKey checks the key and runs do; errors are given their object and kind.
func (s *Store) withKey(ctx context.Context, verb, key string, do func(*os.Root) error) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := s.withRoot(ctx, do)
	switch {
	case err == nil:
		return nil
	case isNotFound(err):
		err = store.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		return notPermitted(store.Where(s, key), verb)
	}
	return fmt.Errorf("%s %s: %w", verb, store.Where(s, key), err)
}

// withRoot runs do with the base directory open, for one call only, so that a store needs no Close.
func (s *Store) withRoot(ctx context.Context, do func(*os.Root) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

// withLock is withKey under the lock, for writers.
func (s *Store) withLock(ctx context.Context, verb, key string, do func(*os.Root) error) error {
	return s.withKey(ctx, verb, key, func(root *os.Root) error {
		select {
		case s.writing <- struct{}{}:
			defer func() { <-s.writing }()
		case <-ctx.Done():
			return ctx.Err()
		}
		lock, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, filePerm)
		if err != nil {
			return err
		}
		defer lock.Close()
		for {
			ok, err := flock.TryLock(lock)
			if err != nil {
				return fmt.Errorf("lock %s: %w", filepath.Join(s.dir, lockName), err)
			}
			if ok {
				break
			}
			select {
			case <-time.After(lockRetry):
			case <-ctx.Done():
				return fmt.Errorf("another muster holds the lock: %w", ctx.Err())
			}
		}
		return do(root)
	})
}

// read reads a regular file. A directory is not an object.
func read(root *os.Root, key string) ([]byte, error) {
	f, err := root.Open(key)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	data, err := io.ReadAll(io.LimitReader(f, store.MaxSize+1))
	if err == nil && len(data) > store.MaxSize {
		err = fmt.Errorf("larger than %d bytes; not a state store's object", store.MaxSize)
	}
	return data, err
}

// write creates the object's directory, removes stale temporary files and replaces the file.
func write(root *os.Root, key string, data []byte) error {
	dir, name := path.Split(key)
	dir = path.Clean("./" + dir)
	if err := makeDirs(root, dir); err != nil {
		return err
	}
	sub, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := removeStale(sub, name); err != nil {
		return err
	}
	if err := replace(sub, name, data); err != nil {
		return err
	}
	return syncDir(root, dir)
}

// makeDirs creates a directory and its parents; each new one is synced before it is written to.
func makeDirs(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if info, err := root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := path.Dir(dir)
	if err := makeDirs(root, parent); err != nil {
		return err
	}
	if err := root.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(root, parent)
}

// removeStale removes temporary files that killed writers of the same object left. The lock is held, so no running writer
// uses them.
func removeStale(dir *os.Root, name string) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "."+name)
		if ok && number != "" && strings.Trim(number, "0123456789") == "" {
			if err := dir.Remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// isNotFound also reports a file in the place of a directory.
func isNotFound(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir)
}

func version(data []byte) store.Version {
	sum := sha256.Sum256(data)
	return store.Version(hex.EncodeToString(sum[:]))
}
