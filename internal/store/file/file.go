// Package file is a state store in a directory, as kOps has it under file://.
//
// An object is a file and its version the hash of its content. Writers of Muster
// take turns by a lock on .muster-lock in the base directory; kOps knows no lock, so a
// write of its own between our look and our rename, microseconds apart, goes
// unseen. Files are replaced whole by a rename and are on the disk before a
// write returns: kill the process at any moment, and each object is the old one
// or the new one. No key and no symbolic link leads out of the base. Names that
// begin with a dot are no objects: they are the lock, and what a killed writer
// left, which the next writer of the same object removes.
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

	"github.com/muster-dev/muster/internal/store"
)

const (
	lockName = ".muster-lock"
	// lockRetry is how long a writer waits before it asks for the lock again.
	lockRetry = 5 * time.Millisecond
	// Specs may hold an overlay's password and the like.
	filePerm, dirPerm = 0o600, 0o700
)

// Store is a store in a directory. Make one with [Open].
type Store struct {
	dir string
	url string
	// turn holds one token: writers of this process wait here, those of others
	// on the lock.
	turn chan struct{}
}

// Open returns the store in an existing directory.
func Open(dir string) (*Store, error) {
	url := "file://" + filepath.ToSlash(dir)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &store.Fault{Where: url, What: "no such directory", Next: "correct the path, or make it with mkdir -p " + dir, Err: store.ErrNotFound}
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", url, err)
	case !info.IsDir():
		return nil, &store.Fault{Where: url, What: "is a file", Next: "give the directory that holds the clusters"}
	}
	return &Store{dir: dir, url: url, turn: make(chan struct{}, 1)}, nil
}

// URL implements store.Store.
func (s *Store) URL() string { return s.url }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	var o store.Object
	err := s.with(ctx, "read", key, func(root *os.Root) error {
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
	err := s.locked(ctx, "write", key, func(root *os.Root) error {
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
	return s.locked(ctx, "delete", key, func(root *os.Root) error {
		if err := compare(root, key, old); err != nil {
			return err
		}
		if err := root.Remove(key); err != nil {
			return err
		}
		return syncDir(root, path.Dir(key))
	})
}

// compare returns nil if the object exists and has version old, or any will do.
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
	err := s.below(ctx, prefix, func(root *os.Root, start string) error {
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
	err := s.below(ctx, prefix, func(root *os.Root, start string) error {
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

// below runs do for the directory of a prefix, if there is one.
func (s *Store) below(ctx context.Context, prefix string, do func(root *os.Root, start string) error) error {
	if err := store.CheckPrefix(prefix); err != nil {
		return err
	}
	start := prefix
	if start == "" {
		start = "."
	}
	err := s.open(ctx, func(root *os.Root) error { return do(root, start) })
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", store.Where(s, prefix), err)
	}
	return nil
}

// with checks the key and runs do; errors get a name and a kind.
func (s *Store) with(ctx context.Context, verb, key string, do func(*os.Root) error) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := s.open(ctx, do)
	switch {
	case err == nil:
		return nil
	case isNotFound(err):
		err = store.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		return &store.Fault{
			Where: store.Where(s, key), What: verb + " is not permitted",
			Next: "run as a user that may, or change the owner of the directory", Err: store.ErrDenied,
		}
	}
	return fmt.Errorf("%s %s: %w", verb, store.Where(s, key), err)
}

// open opens the base for one call, so that a store holds nothing that somebody
// would have to close.
func (s *Store) open(ctx context.Context, do func(*os.Root) error) error {
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

// locked is with for those that change something: one at a time.
func (s *Store) locked(ctx context.Context, verb, key string, do func(*os.Root) error) error {
	return s.with(ctx, verb, key, func(root *os.Root) error {
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		case <-ctx.Done():
			return ctx.Err()
		}
		lock, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, filePerm)
		if err != nil {
			return err
		}
		defer lock.Close()
		for {
			ok, err := tryLock(lock)
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

// read reads a regular file. A directory is no object.
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

// write makes the object's directory, sweeps and replaces the file.
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
	if err := sweep(sub, name); err != nil {
		return err
	}
	if err := replace(sub, name, data); err != nil {
		return err
	}
	return syncDir(root, dir)
}

// makeDirs makes a directory and its parents; each new one is on the disk
// before something is written into it.
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

// sweep removes what killed writers of the same object left. The lock is held,
// so no living one is among them.
func sweep(dir *os.Root, name string) error {
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

// isNotFound also holds where a file stands in a directory's place.
func isNotFound(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir)
}

func version(data []byte) store.Version {
	sum := sha256.Sum256(data)
	return store.Version(hex.EncodeToString(sum[:]))
}
