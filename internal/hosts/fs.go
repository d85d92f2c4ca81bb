package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileSystem is all that a File does to the disk, apart from its lock. The crash tests stop the world after any of
// these calls.
type fileSystem interface {
	// OpenFile creates files with exactly the mode perm, whatever the umask.
	OpenFile(name string, flag int, perm fs.FileMode) (handle, error)
	Stat(name string) (fs.FileInfo, error)
	// SameFile reports whether two results of Stat are of one inode.
	SameFile(a, b fs.FileInfo) bool
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes renames, creations and removals in the directory durable.
	SyncDir(name string) error
}

// handle is an open file.
type handle interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error
}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (handle, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File in the interface would not be nil
	}
	if flag&os.O_CREATE != 0 {
		if err := f.Chmod(perm); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }
func (osFS) SameFile(a, b fs.FileInfo) bool        { return os.SameFile(a, b) }
func (osFS) Rename(from, to string) error          { return os.Rename(from, to) }
func (osFS) Remove(name string) error              { return os.Remove(name) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readAll reads the whole file. Past limit bytes the error is errTooLarge.
func readAll(h handle, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.NewSectionReader(h, 0, limit+1))
	if err == nil && int64(len(content)) > limit {
		return nil, errTooLarge
	}
	return content, err
}

// overwrite replaces the content of the open file, keeping the inode, and syncs it. size is its size before. The
// whole content goes out in one pwrite. If it is shorter than before, it is padded with line feeds to the old size
// and truncated afterwards, so between two system calls neither a reader nor a crash finds the head of one version
// with the tail of another: it finds the old lines, or the new ones with blank lines below. Truncating first, as a
// plain rewrite does, would show every reader on the node an empty file. What remains is the time in which the kernel
// copies the pages of that one call; as long as the inode must stay, no system call closes it.
func overwrite(h handle, content []byte, size int64) error {
	padded := pad(content, int(size))
	if _, err := h.WriteAt(padded, 0); err != nil {
		return err
	}
	if len(padded) > len(content) {
		if err := h.Truncate(int64(len(content))); err != nil {
			return err
		}
	}
	return h.Sync()
}

// pad returns content padded with line feeds to size bytes.
func pad(content []byte, size int) []byte {
	if len(content) >= size {
		return content
	}
	return append(bytes.Clone(content), bytes.Repeat([]byte("\n"), size-len(content))...)
}

// replaceFile replaces name atomically, through a temporary file beside it. Only for our own files: the hosts file
// must keep its inode.
func replaceFile(fsys fileSystem, name string, content []byte) error {
	temp := name + ".tmp"
	h, err := fsys.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = h.WriteAt(content, 0)
	if err == nil {
		err = h.Sync()
	}
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// removeFile removes name, which need not exist.
func removeFile(fsys fileSystem, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readFile reads a small file whole.
func readFile(fsys fileSystem, name string, limit int64) ([]byte, error) {
	h, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	content, err := readAll(h, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return content, nil
}
