package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/flock"
)

const (
	// lockTimeout bounds the wait for other servers. Each holds the lock for well under a millisecond.
	lockTimeout = 5 * time.Second
	lockPoll    = 2 * time.Millisecond

	// firstRevision is the revision of an empty store. It is not 0, which means "any" in Kubernetes.
	firstRevision = 1

	revisionFile = "revision"
	lockFile     = "lock"
	leaseDir     = "leases"
	nodeDir      = "nodes"
	sliceFile    = "endpointslice.json"
	tempPrefix   = ".tmp-"
)

// store is the directory that replaces etcd: one JSON file an object, and a revision that increases with every change
// of a Node or of the EndpointSlice.
//
// Every access holds a lock that the kernel releases with the process. Files are replaced by rename, so a server that
// is killed leaves the old or the new one. The revision is written before the object that has it: a kill in between
// leaves a gap, never a revision used twice. Nothing is synced to disk, because a lab does not outlive its machine.
type store struct{ dir string }

// openStore opens the directory and removes temporary files of servers that were killed.
func openStore(ctx context.Context, dir string) (*store, error) {
	s := &store{dir: dir}
	for _, sub := range []string{leaseDir, nodeDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	err := s.update(ctx, func(*transaction) error {
		return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(entry.Name(), tempPrefix) {
				err = os.Remove(path)
			}
			return err
		})
	})
	return s, err
}

// transaction is the store while it is locked.
type transaction struct {
	dir string
	now time.Time
}

// view calls fn while nobody writes.
func (s *store) view(ctx context.Context, fn func(*transaction) error) error {
	return s.locked(ctx, flock.TryRLock, fn)
}

// update calls fn while nobody else reads or writes. What it wrote before an error stays.
func (s *store) update(ctx context.Context, fn func(*transaction) error) error {
	return s.locked(ctx, flock.TryLock, fn)
}

func (s *store) locked(ctx context.Context, lock func(*os.File) (bool, error), fn func(*transaction) error) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	file, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // which unlocks
	for {
		taken, err := lock(file)
		if err != nil {
			return err
		}
		if taken {
			return fn(&transaction{dir: s.dir, now: time.Now()})
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", file.Name(), ctx.Err())
		}
	}
}

// readRevision returns the store's revision. It does not lock.
func (s *store) readRevision() (uint64, error) {
	if _, err := os.Stat(filepath.Join(s.dir, nodeDir)); err != nil {
		return 0, err // the directory is gone; if only the file is missing, the store is new
	}
	return (&transaction{dir: s.dir}).revision()
}

// revision returns the store's revision.
func (tx *transaction) revision() (uint64, error) {
	text, err := os.ReadFile(filepath.Join(tx.dir, revisionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return firstRevision, nil
	}
	if err != nil {
		return 0, err
	}
	revision, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s holds no revision: %w", filepath.Join(tx.dir, revisionFile), err)
	}
	return revision, nil
}

// advance increments the revision and returns it.
func (tx *transaction) advance() (uint64, error) {
	revision, err := tx.revision()
	if err != nil {
		return 0, err
	}
	revision++
	return revision, tx.replace(revisionFile, []byte(strconv.FormatUint(revision, 10)+"\n"))
}

// get reads an object. If it does not exist, the error is fs.ErrNotExist.
func (tx *transaction) get(name string, object any) error {
	path := filepath.Join(tx.dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, object); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// put writes an object.
func (tx *transaction) put(name string, object any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return tx.replace(name, text)
}

// remove deletes an object. If it does not exist, the error is fs.ErrNotExist.
func (tx *transaction) remove(name string) error { return os.Remove(filepath.Join(tx.dir, name)) }

// names returns the names of the objects in a directory, sorted.
func (tx *transaction) names(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(tx.dir, dir))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if name, found := strings.CutSuffix(entry.Name(), ".json"); found && !strings.HasPrefix(name, tempPrefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// replace writes a file atomically.
func (tx *transaction) replace(name string, text []byte) error {
	path := filepath.Join(tx.dir, name)
	file, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}

func leaseFile(name string) string { return leaseDir + "/" + name + ".json" }

func nodeFile(name string) string { return nodeDir + "/" + name + ".json" }
