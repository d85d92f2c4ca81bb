package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undoTimeout bounds taking back, which goes on when the caller's context ends.
const undoTimeout = 30 * time.Second

// Write is one object to be written over what was read of it.
type Write struct {
	// Old is what was read; without a version, nothing was there.
	Old Object
	// Data is what it becomes. Its key is that of Old.
	Data []byte
}

// WriteAll writes several objects, each over the version that was read, in the
// given order. When one cannot be written, those before it are taken back as far
// as nobody has changed them since, so that a store is left as it was found. A
// process that is killed in the middle leaves whole objects, some old and some
// new: put the one last that the others mean nothing without.
func WriteAll(ctx context.Context, s Store, writes []Write) error {
	written := make([]Version, 0, len(writes))
	for _, w := range writes {
		v, err := s.Put(ctx, w.Old.Key, w.Data, w.Old.Version)
		if err != nil {
			return errors.Join(err, undo(ctx, s, writes, written))
		}
		written = append(written, v)
	}
	return nil
}

// undo takes back, newest first.
func undo(ctx context.Context, s Store, writes []Write, written []Version) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	for i := len(written) - 1; i >= 0; i-- {
		var err error
		if old := writes[i].Old; old.Version == Absent {
			err = s.Delete(ctx, old.Key, written[i])
		} else {
			_, err = s.Put(ctx, old.Key, old.Data, written[i])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("take back %s, which stays written: %w", Where(s, writes[i].Old.Key), err))
		}
	}
	return errors.Join(errs...)
}
