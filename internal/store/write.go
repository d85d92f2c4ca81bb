package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undoTimeout bounds the roll-back, which goes on when the caller's context ends.
const undoTimeout = 30 * time.Second

// Write is one object to be written over the version that was read.
type Write struct {
	// Old is the object as read; without a version, it did not exist.
	Old Object
	// Data is its new content.
	Data []byte
}

// WriteAll writes several objects, each over the version that was read, in the given order. If one cannot be written,
// those before it are rolled back unless they have changed since. A process that is killed in between leaves whole
// objects, some old and some new: put the object last that gives the others their meaning.
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

// undo rolls back, newest first.
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
