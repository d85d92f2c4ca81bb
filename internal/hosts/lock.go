package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/flock"
)

// lockPoll is how often a waiting Open tries the lock. It polls because a blocking lock could not be cancelled.
const lockPoll = 100 * time.Millisecond

// lock is the exclusive right to write the block. The kernel releases it however the process ends, so there are no
// stale locks. The file stays when the lock is released: removing it would let two writers lock two files of the same
// name.
type lock struct{ file *os.File }

// tryLock takes the lock or returns ErrLocked at once, with the process that holds it if known. It creates the
// directory of the lock if needed.
func tryLock(path string) (*lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	taken, err := flock.TryLock(file)
	switch {
	case err == nil && taken:
		err = sameFile(file, path)
	case err == nil:
		err = ErrLocked
	}
	if err == nil {
		// The process id is for people; the lock does not depend on it.
		err = errors.Join(file.Truncate(0), writeAt(file, strconv.Itoa(os.Getpid())+"\n"))
	}
	if errors.Is(err, ErrLocked) {
		err = fmt.Errorf("%w: %s is held by %s", ErrLocked, path, holder(file))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &lock{file: file}, nil
}

// sameFile guards against a lock file that was removed, and perhaps created again by another writer, between opening
// and locking it.
func sameFile(file *os.File, path string) error {
	named, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return ErrLocked
	}
	if err != nil {
		return err
	}
	ours, err := file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(named, ours) {
		return ErrLocked
	}
	return nil
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// holder names the process that wrote its id to the lock file.
func holder(file *os.File) string {
	text, _ := io.ReadAll(io.NewSectionReader(file, 0, 32))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 0 {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// Close releases the lock.
func (l *lock) Close() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}

// waitLock takes the lock, waiting for it until ctx ends; the error then wraps both ErrLocked and the cause of ctx.
func waitLock(ctx context.Context, path string, logger *slog.Logger) (*lock, error) {
	for waited := false; ; waited = true {
		l, err := tryLock(path)
		if err == nil {
			if waited {
				logger.Info("hosts block lock taken", "lock", path)
			}
			return l, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, err
		}
		if !waited {
			logger.Info("waiting for the hosts block", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}
