package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// resume deals with the journal of a write that did not come to its end, in this process or one before it. It
// decides by what the hosts file contains now, because other programs may have written to it since.
func (f *File) resume() error {
	c, err := f.readState(f.cfg.journalPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, errDamaged) {
		return f.setAside(err)
	}
	if err != nil {
		return err
	}
	content, err := f.read()
	if isMissing(err) || errors.Is(err, errTooLarge) {
		return f.giveUp(c, err.Error())
	}
	if err != nil {
		return err
	}
	switch c.classify(content) {
	case stateOld:
		return f.giveUp(c, "the write had not begun")
	case stateNext:
		return f.finish(c, content, "the write had reached the file")
	case stateTorn:
		return f.finish(c, content, "the write was interrupted half-way")
	default:
		if sameBlock(content, c.next) {
			// The write was finished, and then somebody changed other lines. Without this the next
			// write would take our own block for a foreign edit.
			return f.finish(c, nil, "the write was finished; other lines were changed since")
		}
		return f.giveUp(c, "the file was changed by another program since; its lines are kept")
	}
}

// settleLeftover is resume for a File that is in use.
func (f *File) settleLeftover() error {
	if err := f.resume(); err != nil {
		return fmt.Errorf("finish the interrupted write: %w", err)
	}
	if err := f.loadRecord(); err != nil {
		return err
	}
	f.unsettled = false
	return nil
}

// finish brings the file from content to the new content of c and settles the journal. A nil content leaves
// the file as it is.
func (f *File) finish(c change, content []byte, reason string) error {
	if content != nil {
		h, err := f.fsys.OpenFile(f.cfg.Path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer h.Close()
		if bytes.Equal(content, c.next) {
			err = h.Sync()
		} else {
			err = f.apply(h, c, content)
		}
		if errors.Is(err, errUndone) {
			f.cfg.Logger.Warn("interrupted write of the hosts block undone", "path", f.cfg.Path, "reason", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	f.cfg.Logger.Info("interrupted write of the hosts block finished", "path", f.cfg.Path, "reason", reason)
	return f.commit(c)
}

// giveUp leaves the file as it is and drops the journal; the next Write works from what is there.
func (f *File) giveUp(c change, reason string) error {
	f.cfg.Logger.Info("interrupted write of the hosts block given up", "path", c.path, "reason", reason)
	return f.dropJournal()
}

// setAside moves a journal that cannot be used out of the way, and keeps it for whoever looks into the matter.
// A node must not lose its names to a damaged journal: the block is repaired by the next Write.
func (f *File) setAside(reason error) error {
	kept := f.cfg.journalPath() + ".bad"
	f.cfg.Logger.Warn("journal of the hosts block cannot be used and is set aside", "kept", kept, "reason", reason)
	if err := f.fsys.Rename(f.cfg.journalPath(), kept); err != nil {
		return err
	}
	return f.fsys.SyncDir(f.cfg.StateDir)
}

// commit turns the journal of a finished change into the record of the last write. After a change that took the
// block out there is nothing to remember.
func (f *File) commit(c change) error {
	last := blockOf(c.next)
	if last == nil {
		// The record goes first: should we be killed in between, the journal makes resume come back here.
		if err := removeFile(f.fsys, f.cfg.recordPath()); err != nil {
			return err
		}
		f.last = nil
		return f.dropJournal()
	}
	if err := f.fsys.Rename(f.cfg.journalPath(), f.cfg.recordPath()); err != nil {
		return err
	}
	f.last = last
	if err := f.fsys.SyncDir(f.cfg.StateDir); err != nil {
		return err
	}
	f.unsettled = false
	return nil
}

func (f *File) dropJournal() error {
	if err := removeFile(f.fsys, f.cfg.journalPath()); err != nil {
		return err
	}
	if err := f.fsys.SyncDir(f.cfg.StateDir); err != nil {
		return err
	}
	f.unsettled = false
	return nil
}

// keepRecord makes the record say what the file has, without touching the file: the state directory may be new,
// or somebody has put in just the block that we would have written. With no block there is nothing to record.
func (f *File) keepRecord(content []byte) error {
	raw := rawBlock(content)
	if raw == nil {
		return f.forget()
	}
	if f.last != nil && bytes.Equal(f.last.raw, raw) {
		return nil
	}
	if err := f.writeState(f.cfg.recordPath(), change{path: f.cfg.Path, old: content, next: content}); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	f.last = blockOf(content)
	return nil
}

// forget removes the record of the last write.
func (f *File) forget() error {
	if err := removeFile(f.fsys, f.cfg.recordPath()); err != nil {
		return err
	}
	f.last = nil
	return f.fsys.SyncDir(f.cfg.StateDir)
}

// loadRecord reads what was written last. A damaged record counts as none: the next Write makes a new one.
func (f *File) loadRecord() error {
	f.last = nil
	c, err := f.readState(f.cfg.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, errDamaged) {
		f.cfg.Logger.Warn("record of the hosts block cannot be used", "path", f.cfg.recordPath(), "reason", err)
		return nil
	}
	if err != nil {
		return err
	}
	f.last = blockOf(c.next)
	return nil
}

func (f *File) writeState(name string, c change) error {
	data, err := c.encode()
	if err != nil {
		return err
	}
	return replaceFile(f.fsys, name, data)
}

// readState reads a journal or record. One of another hosts file is as useless as a damaged one.
func (f *File) readState(name string) (change, error) {
	data, err := readFile(f.fsys, name, maxChangeSize)
	if errors.Is(err, errTooLarge) {
		return change{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return change{}, err
	}
	c, err := decodeChange(data)
	if err != nil {
		return change{}, err
	}
	if c.path != f.cfg.Path {
		return change{}, fmt.Errorf("%w: it is about %s, not %s", errDamaged, c.path, f.cfg.Path)
	}
	return c, nil
}

// rawBlock returns the bytes of the block if content has exactly one, whole.
func rawBlock(content []byte) []byte {
	return survey(content, nil).raw(content)
}

// sameBlock reports whether both contents have the same block, whole, or neither has anything of ours.
func sameBlock(a, b []byte) bool {
	rawA, rawB := rawBlock(a), rawBlock(b)
	if rawA == nil && rawB == nil {
		return len(survey(a, nil).ours) == 0 && len(survey(b, nil).ours) == 0
	}
	return bytes.Equal(rawA, rawB)
}
