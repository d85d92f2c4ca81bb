package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Write is one object to be written over the version that was read.
type Write struct {
	// Old is the object as read; without a version, it did not exist.
	Old Object
	// Data is its new content.
	Data []byte
}

// PartialWriteError reports that [WriteAll] failed and that not everything could be rolled back, or that nobody can say.
// It does not wrap its cause: whatever that was, something is half done.
type PartialWriteError struct {
	Err error // why a write failed
	// The locations of the objects, by what is known of each.
	Written    []string // holds the new content
	Unknown    []string // may hold it: neither the write nor a look at it had an answer
	Changed    []string // was changed by somebody else since, and left alone
	RolledBack []string // holds the old content again
	NotWritten []string // was not changed by this
	// Next is what to do.
	Next string
}

// Error returns all of it on one line.
func (e *PartialWriteError) Error() string {
	var b strings.Builder
	fmt.Fprint(&b, e.Err)
	for _, group := range []struct {
		what string
		of   []string
	}{
		{"written", e.Written}, {"perhaps written", e.Unknown}, {"changed by somebody else since and left alone", e.Changed},
		{"rolled back", e.RolledBack}, {"not written", e.NotWritten},
	} {
		if len(group.of) > 0 {
			fmt.Fprintf(&b, "; %s: %s", group.what, strings.Join(group.of, ", "))
		}
	}
	return b.String() + "; " + e.Next
}

// WriteAll writes several objects, each over the version that was read, in the given order. If one cannot be written,
// those before it are rolled back unless they have changed since. A write without an answer is looked up: if it was made,
// it counts as made. What could not be rolled back, and what nobody can say, is a [*PartialWriteError].
//
// A process that is killed in between leaves whole objects, some old and some new: put the object last that gives the
// others their meaning.
func WriteAll(ctx context.Context, s Store, writes []Write) error {
	made := make([]Version, 0, len(writes))
	for _, w := range writes {
		v, err := s.Put(ctx, w.Old.Key, w.Data, w.Old.Version)
		if err != nil {
			v, err = settle(ctx, s, writes, made, err)
		}
		if err != nil {
			return err
		}
		made = append(made, v)
	}
	return nil
}

// undoTimeout bounds what follows a write that failed, which goes on when the caller's context ends.
const undoTimeout = 30 * time.Second

// settle deals with the failure of the write after those that were made. It returns the version of one that was made
// nevertheless, or rolls back and returns the error of all.
func settle(ctx context.Context, s Store, writes []Write, made []Version, cause error) (Version, error) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if isRefusal(cause) {
		return "", rollBack(after, s, writes, made, notWritten, cause)
	}
	next, v := lookUp(after, s, writes[len(made)])
	switch {
	case next == written && ctx.Err() == nil:
		return v, nil
	case next == written:
		made = append(made, v)
	}
	return "", rollBack(after, s, writes, made, next, cause)
}

// isRefusal reports whether an error of Put or Delete means that nothing was changed.
func isRefusal(err error) bool {
	return slices.ContainsFunc([]error{ErrConflict, ErrDenied, ErrNotFound, ErrUnsupported}, func(kind error) bool { return errors.Is(err, kind) })
}

// fate is what has become of a write.
type fate int

const (
	notWritten fate = iota
	written
	rolledBack
	changed // by somebody else
	unknown
)

// lookUp finds out by reading what has become of a write that had no answer.
func lookUp(ctx context.Context, s Store, w Write) (fate, Version) {
	o, err := s.Get(ctx, w.Old.Key)
	switch {
	case errors.Is(err, ErrNotFound) && w.Old.Version == Absent:
		return notWritten, ""
	case errors.Is(err, ErrNotFound):
		return changed, ""
	case err != nil:
		return unknown, ""
	case w.Old.Version != Absent && bytes.Equal(o.Data, w.Old.Data):
		return notWritten, o.Version
	case bytes.Equal(o.Data, w.Data):
		return written, o.Version
	}
	return changed, o.Version
}

// rollBack rolls back the writes that were made, newest first, and returns the error of all. next is the fate of the
// write that failed, unless it is among those that were made.
func rollBack(ctx context.Context, s Store, writes []Write, made []Version, next fate, cause error) error {
	fates := make([]fate, len(writes)) // not written
	if next != written {
		fates[len(made)] = next
	}
	for i, v := range slices.Backward(made) {
		fates[i] = takeBack(ctx, s, writes[i], v)
	}
	e := &PartialWriteError{Err: cause}
	for i, w := range writes {
		at := map[fate]*[]string{notWritten: &e.NotWritten, written: &e.Written, rolledBack: &e.RolledBack, changed: &e.Changed, unknown: &e.Unknown}[fates[i]]
		*at = append(*at, Where(s, w.Old.Key))
	}
	if len(e.Written)+len(e.Unknown)+len(e.Changed) == 0 {
		return cause
	}
	cluster, _, _ := strings.Cut(writes[0].Old.Key, "/")
	e.Next = fmt.Sprintf("see what is there (muster export cluster %s --state %s) and run the command again: it goes on from that", cluster, s.URL())
	return e
}

// takeBack rolls back one write.
func takeBack(ctx context.Context, s Store, w Write, v Version) fate {
	var err error
	if w.Old.Version == Absent {
		err = s.Delete(ctx, w.Old.Key, v)
	} else {
		_, err = s.Put(ctx, w.Old.Key, w.Old.Data, v)
	}
	if err == nil {
		return rolledBack
	}
	is, _ := lookUp(ctx, s, w)
	if is == notWritten {
		return rolledBack // the answer was lost
	}
	return is
}
