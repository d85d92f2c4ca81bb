package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

var (
	errTooLarge = fmt.Errorf("larger than %d bytes", MaxSize)
	// errRaced says that somebody else has changed the hosts file while a change to it was being prepared.
	errRaced = errors.New("another program keeps changing it")
	// errUndone says that overwriting the hosts file failed and that it is as it was before.
	errUndone = errors.New("the old content was put back")
)

// missingError says that there is no hosts file. It is fs.ErrNotExist to callers; as a type of its own it cannot
// be mistaken for a missing file of the state directory.
type missingError struct{ path string }

func (e missingError) Error() string {
	return fmt.Sprintf("%s does not exist; create it (one line, \"127.0.0.1 localhost\", will do) or allow it to be created", e.path)
}

func (e missingError) Is(target error) bool { return target == fs.ErrNotExist }

func isMissing(err error) bool {
	var missing missingError
	return errors.As(err, &missing)
}

// maxAttempts is how often a change is prepared anew because somebody else has changed the file meanwhile.
const maxAttempts = 5

// The order of a change
//
//  1. read the hosts file, work out the new content;
//  2. write the journal with both contents; from here on a crash can be judged by content;
//  3. read again: if the file is not what step 1 saw, drop the journal and begin anew;
//  4. overwrite in place, fsync;
//  5. rename the journal to be the record of the last write (or remove both, when the block was taken out).
//
// resume is the other half: given a journal, it looks which of old, new, a mix, or something else the file
// has, and goes to step 5, completes step 4, or gives up the change.
//
// A foreign program that writes between steps 3 and 4 has its write overwritten. No lock that other programs
// would honour exists for a hosts file, so that gap, a few microseconds, can only be kept small.

// update brings the hosts file to having a block of lines, or none if there are no lines. The caller holds mu.
func (f *File) update(ctx context.Context, lines []string, entries []Entry) (Result, error) {
	if f.closed {
		return Result{}, os.ErrClosed
	}
	if f.unsettled {
		if err := f.settleLeftover(); err != nil {
			return Result{}, err
		}
	}
	owned := namesOf(entries)
	if f.last != nil {
		maps.Copy(owned, f.last.names)
	}
	for range maxAttempts {
		if err := ctx.Err(); err != nil {
			return Result{}, context.Cause(ctx)
		}
		old, err := f.readOrCreate(len(lines) > 0)
		if err != nil {
			return Result{}, err
		}
		lay := survey(old, owned)
		next := lay.rewrite(old, lines)
		if len(next) > MaxSize {
			return Result{}, fmt.Errorf("%s with the block is %w", f.cfg.Path, errTooLarge)
		}
		res := f.findings(old, lay, entries)
		if bytes.Equal(old, next) {
			return res, f.keepRecord(old)
		}
		last := f.last
		res.Changed, err = f.replace(change{path: f.cfg.Path, old: old, next: next})
		if errors.Is(err, errRaced) {
			continue
		}
		if res.Changed {
			f.logChange(res, last, lines)
		}
		return res, err
	}
	return Result{}, fmt.Errorf("%s: %w; tried %d times", f.cfg.Path, errRaced, maxAttempts)
}

// findings compares what is in the file with what was written last.
func (f *File) findings(content []byte, lay layout, entries []Entry) Result {
	res := Result{Repaired: lay.fault(), Shadowed: lay.shadowing(content, entries)}
	if f.last == nil {
		res.Adopted = lay.lines
	} else {
		res.Foreign = compare(f.last.lines, lay.lines)
	}
	return res
}

// read returns the hosts file. It is opened by its path each time, because somebody may have put another file
// in its place.
func (f *File) read() ([]byte, error) {
	info, err := f.fsys.Stat(f.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingError{f.cfg.Path}
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		// Opening a pipe would wait for its other end.
		return nil, fmt.Errorf("%s is not a regular file (mode %s)", f.cfg.Path, info.Mode())
	}
	content, err := readFile(f.fsys, f.cfg.Path, MaxSize)
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("%w; a hosts file of that size slows down every look-up: find out what fills it", err)
	}
	return content, err
}

// readOrCreate is read, but creates a missing file, empty, if that is wanted and allowed.
func (f *File) readOrCreate(wanted bool) ([]byte, error) {
	content, err := f.read()
	if !isMissing(err) || !wanted || !f.cfg.Create {
		return content, err
	}
	h, err := f.fsys.OpenFile(f.cfg.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return f.read()
	}
	if err != nil {
		return nil, err
	}
	if err := h.Close(); err != nil {
		return nil, err
	}
	return nil, f.fsys.SyncDir(filepath.Dir(f.cfg.Path))
}

// replace carries a change out. applied says that the hosts file has the new content, even if settling the
// journal failed after that. errRaced means that the change was given up because the file is not, or no longer,
// the one that the change was made for.
func (f *File) replace(c change) (applied bool, err error) {
	h, err := f.fsys.OpenFile(f.cfg.Path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer h.Close()
	// Even if writing the journal fails it may be there: only the fsync after its rename may have gone wrong.
	f.unsettled = true
	if err := f.writeState(f.cfg.journalPath(), c); err != nil {
		return false, fmt.Errorf("write the journal: %w", err)
	}
	now, err := readAll(h, MaxSize)
	switch {
	case errors.Is(err, errTooLarge), err == nil && !bytes.Equal(now, c.old):
		return false, errors.Join(errRaced, f.dropJournal())
	case err != nil:
		return false, err
	}
	if err := f.apply(h, c, now); err != nil {
		return false, err
	}
	err = f.stillNamed(h)
	if errors.Is(err, errRaced) {
		return false, errors.Join(err, f.dropJournal())
	}
	if err != nil {
		return true, err
	}
	return true, f.commit(c)
}

// apply overwrites the open hosts file, which has content now, with the new content of c. If that fails (a full
// disk, as a rule), it puts the old content back, so that no reader has to live with half a file until somebody
// makes room: the old content has its blocks already.
func (f *File) apply(h handle, c change, now []byte) error {
	err := overwrite(h, c.next, int64(len(now)))
	if err == nil {
		return nil
	}
	info, statErr := h.Stat()
	if statErr != nil {
		return errors.Join(err, statErr)
	}
	if backErr := overwrite(h, c.old, info.Size()); backErr != nil {
		return fmt.Errorf("%w; and %s could not be put back as it was, it may be damaged: %w", err, f.cfg.Path, backErr)
	}
	if dropErr := f.dropJournal(); dropErr != nil {
		return errors.Join(err, dropErr)
	}
	return fmt.Errorf("%w; %w", err, errUndone)
}

// stillNamed reports errRaced unless h is the file that the path names. A file that was renamed to the path since h
// was opened has not got our block.
func (f *File) stillNamed(h handle) error {
	ours, err := h.Stat()
	if err != nil {
		return err
	}
	named, err := f.fsys.Stat(f.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return errRaced
	}
	if err != nil {
		return err
	}
	if !f.fsys.SameFile(ours, named) {
		return errRaced
	}
	return nil
}
