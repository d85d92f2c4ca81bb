//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// faultFS is a file system in which one call goes wrong.
type faultFS struct {
	base fileSystem
	// at is the number of the call that goes wrong, from 1; 0 is none.
	at int
	// kill says that nothing happens any more from that call on, as after SIGKILL. Otherwise the one call
	// fails with ENOSPC and the process lives on.
	kill bool
	// written is the share, in quarters, of the data that a write which goes wrong gets to the file.
	written int
	// before, if set, is called before each call with its name and the base name of its file.
	before func(op string)

	calls int
	hit   bool
	log   []string // of the calls that were carried out
}

var errKilled = errors.New("the process was killed")

// step counts a call and returns the error that it must return without doing anything, or nil.
func (f *faultFS) step(op, name string) error {
	op += " " + filepath.Base(name)
	if f.before != nil {
		f.before(op)
	}
	if f.hit && f.kill {
		return errKilled
	}
	f.calls++
	if f.calls == f.at {
		f.hit = true
		if f.kill {
			return errKilled
		}
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
	}
	f.log = append(f.log, op)
	return nil
}

func (f *faultFS) OpenFile(name string, flag int, perm fs.FileMode) (handle, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	if err := f.step(op, name); err != nil {
		return nil, err
	}
	h, err := f.base.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultHandle{handle: h, fsys: f, name: name}, nil
}

func (f *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.step("stat", name); err != nil {
		return nil, err
	}
	return f.base.Stat(name)
}

func (f *faultFS) SameFile(a, b fs.FileInfo) bool { return f.base.SameFile(a, b) }

func (f *faultFS) Rename(from, to string) error {
	if err := f.step("rename to", to); err != nil {
		return err
	}
	return f.base.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.step("remove", name); err != nil {
		return err
	}
	return f.base.Remove(name)
}

func (f *faultFS) SyncDir(name string) error {
	if err := f.step("fsync directory", name); err != nil {
		return err
	}
	return f.base.SyncDir(name)
}

// faultHandle closes for real even after the kill, as the kernel does.
type faultHandle struct {
	handle
	fsys *faultFS
	name string
}

func (h *faultHandle) ReadAt(p []byte, off int64) (int, error) {
	if err := h.fsys.step("read", h.name); err != nil {
		return 0, err
	}
	return h.handle.ReadAt(p, off)
}

func (h *faultHandle) WriteAt(p []byte, off int64) (int, error) {
	before := h.fsys.hit
	if err := h.fsys.step("write", h.name); err != nil {
		n := 0
		if h.fsys.hit && !before {
			n, _ = h.handle.WriteAt(p[:len(p)*h.fsys.written/4], off)
		}
		return n, err
	}
	return h.handle.WriteAt(p, off)
}

func (h *faultHandle) Truncate(size int64) error {
	if err := h.fsys.step("truncate", h.name); err != nil {
		return err
	}
	return h.handle.Truncate(size)
}

func (h *faultHandle) Stat() (fs.FileInfo, error) {
	if err := h.fsys.step("stat", h.name); err != nil {
		return nil, err
	}
	return h.handle.Stat()
}

func (h *faultHandle) Sync() error {
	if err := h.fsys.step("fsync", h.name); err != nil {
		return err
	}
	return h.handle.Sync()
}
