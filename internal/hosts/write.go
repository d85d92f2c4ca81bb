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
	// errConcurrentChange says that the hosts file changed while a change to it was being prepared.
	errConcurrentChange = errors.New("another program keeps changing it")
	// errRolledBack says that overwriting the hosts file failed and its old content was restored.
	errRolledBack = errors.New("the old content was put back")
)

// missingError says that there is no hosts file. To callers it is fs.ErrNotExist; the type tells it from a missing
// file of the state directory.
type missingError struct{ path string }

func (e missingError) Error() string {
	return fmt.Sprintf("%s does not exist; create it (one line, \"127.0.0.1 localhost\", will do) or allow it to be created", e.path)
}

func (e missingError) Is(target error) bool { return target == fs.ErrNotExist }

func isFileMissing(err error) bool {
	var missing missingError
	return errors.As(err, &missing)
}

// maxAttempts is how often a change is tried if others keep changing the file.
const maxAttempts = 5

// The order of a change
//  1. read the hosts file, compute the new content;
//  2. write the journal with both contents; from here on the content tells how far a crash came;
//  3. read again: if the file is not what step 1 read, drop the journal and start over;
//  4. overwrite in place, fsync;
//  5. rename the journal to be the record of the last write (or remove both, when the block was taken out).
// resume is the other half: given a journal, it finds the file to be old, new, a mix, or something else, and goes to
// step 5, completes step 4, or abandons the change. A foreign write between steps 3 and 4 is lost. There is no lock
// on a hosts file that other programs honour, so that gap of a few microseconds can only be kept small.

// update gives the hosts file a block of lines, or removes the block if there are no lines. The caller holds mu.
func (f *File) update(ctx context.Context, lines []string, entries []Entry) (Result, error) {
	if f.closed {
		return Result{}, os.ErrClosed
	}
	if f.journalPending {
		if err := f.recoverJournal(); err != nil {
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
		lay := parseLayout(old, owned)
		next := lay.rewrite(old, lines)
		if len(next) > MaxSize {
			return Result{}, fmt.Errorf("%s with the block is %w", f.cfg.Path, errTooLarge)
		}
		res := f.findings(old, lay, entries)
		if bytes.Equal(old, next) {
			return res, f.saveRecord(old)
		}
		last := f.last
		res.Changed, err = f.replace(change{path: f.cfg.Path, old: old, next: next})
		if errors.Is(err, errConcurrentChange) {
			continue
		}
		if res.Changed {
			f.logChange(res, last, lines)
		}
		return res, err
	}
	return Result{}, fmt.Errorf("%s: %w; tried %d times", f.cfg.Path, errConcurrentChange, maxAttempts)
}

// findings compares the content of the file with the last write.
func (f *File) findings(content []byte, lay layout, entries []Entry) Result {
	res := Result{Repaired: lay.fault(), Shadowed: lay.shadowing(content, entries)}
	if f.last == nil {
		res.Adopted = lay.lines
	} else {
		res.Foreign = compare(f.last.lines, lay.lines)
	}
	return res
}

// read returns the hosts file. It is opened by path each time, because another file may have been put in its place.
func (f *File) read() ([]byte, error) {
	info, err := f.fsys.Stat(f.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingError{f.cfg.Path}
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		// Opening a pipe would block until its other end is opened.
		return nil, fmt.Errorf("%s is not a regular file (mode %s)", f.cfg.Path, info.Mode())
	}
	content, err := readFile(f.fsys, f.cfg.Path, MaxSize)
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("%w; a hosts file of that size slows down every look-up: find out what fills it", err)
	}
	return content, err
}

// readOrCreate is read, but creates a missing file, empty, if wanted is set and Config.Create allows it.
func (f *File) readOrCreate(wanted bool) ([]byte, error) {
	content, err := f.read()
	if !isFileMissing(err) || !wanted || !f.cfg.Create {
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

// replace carries out a change. applied says that the hosts file has the new content, even if updating the journal
// failed afterwards. errConcurrentChange means that the change was abandoned because the file is not, or no longer,
// what it was prepared for.
func (f *File) replace(c change) (applied bool, err error) {
	h, err := f.fsys.OpenFile(f.cfg.Path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer h.Close()
	// Set before the write: even if it fails the journal may exist, when only the fsync after the rename failed.
	f.journalPending = true
	if err := f.writeState(f.cfg.journalPath(), c); err != nil {
		return false, fmt.Errorf("write the journal: %w", err)
	}
	now, err := readAll(h, MaxSize)
	switch {
	case errors.Is(err, errTooLarge), err == nil && !bytes.Equal(now, c.old):
		return false, errors.Join(errConcurrentChange, f.dropJournal())
	case err != nil:
		return false, err
	}
	if err := f.apply(h, c, now); err != nil {
		return false, err
	}
	err = f.checkNotReplaced(h)
	if errors.Is(err, errConcurrentChange) {
		return false, errors.Join(err, f.dropJournal())
	}
	if err != nil {
		return true, err
	}
	return true, f.commit(c)
}

// apply overwrites the open hosts file, which holds now, with the new content of c. If that fails (usually on a full
// disk), it restores the old content, whose disk blocks are allocated already, so that readers do not get half a file
// until somebody frees space.
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
	return fmt.Errorf("%w; %w", err, errRolledBack)
}

// checkNotReplaced returns errConcurrentChange unless the path still names the file h. One renamed to the path since
// h was opened lacks our block.
func (f *File) checkNotReplaced(h handle) error {
	ours, err := h.Stat()
	if err != nil {
		return err
	}
	named, err := f.fsys.Stat(f.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return errConcurrentChange
	}
	if err != nil {
		return err
	}
	if !f.fsys.SameFile(ours, named) {
		return errConcurrentChange
	}
	return nil
}
