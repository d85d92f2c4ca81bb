package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// resume completes or abandons an interrupted write, of this process or an earlier one, if there is a journal. It
// decides by the present content of the hosts file, because other programs may have written to it since.
func (f *File) resume() error {
	c, err := f.readState(f.cfg.journalPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, errDamaged) {
		return f.quarantine(err)
	}
	if err != nil {
		return err
	}
	content, err := f.read()
	if isFileMissing(err) || errors.Is(err, errTooLarge) {
		return f.abandon(c, err.Error())
	}
	if err != nil {
		return err
	}
	switch c.classify(content) {
	case stateOld:
		return f.abandon(c, "the write had not begun")
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
		return f.abandon(c, "the file was changed by another program since; its lines are kept")
	}
}

// recoverJournal is resume for an open File.
func (f *File) recoverJournal() error {
	if err := f.resume(); err != nil {
		return fmt.Errorf("finish the interrupted write: %w", err)
	}
	if err := f.loadRecord(); err != nil {
		return err
	}
	f.journalPending = false
	return nil
}

// finish completes c on a file that has content now, and commits it. If content is nil the file is left as it is.
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
		if errors.Is(err, errRolledBack) {
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

// abandon drops the journal and leaves the file as it is; the next Write starts from there.
func (f *File) abandon(c change, reason string) error {
	f.cfg.Logger.Info("interrupted write of the hosts block given up", "path", c.path, "reason", reason)
	return f.dropJournal()
}

// quarantine renames a damaged journal, so that it can be examined later. It is no reason to fail: the next Write
// repairs the block.
func (f *File) quarantine(reason error) error {
	kept := f.cfg.journalPath() + ".bad"
	f.cfg.Logger.Warn("journal of the hosts block cannot be used and is set aside", "kept", kept, "reason", reason)
	if err := f.fsys.Rename(f.cfg.journalPath(), kept); err != nil {
		return err
	}
	return f.fsys.SyncDir(f.cfg.StateDir)
}

// commit turns the journal of an applied change into the record of the last write, or removes both if the change
// removed the block.
func (f *File) commit(c change) error {
	last := blockOf(c.next)
	if last == nil {
		// The record first: if we are killed in between, the journal brings resume back here.
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
	f.journalPending = false
	return nil
}

func (f *File) dropJournal() error {
	if err := removeFile(f.fsys, f.cfg.journalPath()); err != nil {
		return err
	}
	if err := f.fsys.SyncDir(f.cfg.StateDir); err != nil {
		return err
	}
	f.journalPending = false
	return nil
}

// saveRecord updates the record for a file that needed no write: the state directory may be new, or somebody else
// wrote the very block that we would have. Without a block the record is removed.
func (f *File) saveRecord(content []byte) error {
	raw := rawBlock(content)
	if raw == nil {
		return f.removeRecord()
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
func (f *File) removeRecord() error {
	if err := removeFile(f.fsys, f.cfg.recordPath()); err != nil {
		return err
	}
	f.last = nil
	return f.fsys.SyncDir(f.cfg.StateDir)
}

// loadRecord reads the record of the last write. A damaged one counts as none: the next Write replaces it.
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

// readState reads a journal or record. One that is about another hosts file counts as damaged.
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

// rawBlock returns the block of content, guards included, or nil unless it has exactly one and nothing is broken.
func rawBlock(content []byte) []byte {
	return parseLayout(content, nil).raw(content)
}

// sameBlock reports whether both contents have the same intact block, or neither has anything of ours.
func sameBlock(a, b []byte) bool {
	rawA, rawB := rawBlock(a), rawBlock(b)
	if rawA == nil && rawB == nil {
		return len(parseLayout(a, nil).ours) == 0 && len(parseLayout(b, nil).ours) == 0
	}
	return bytes.Equal(rawA, rawB)
}
