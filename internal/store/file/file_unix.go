//go:build !windows

package file

import (
	"errors"
	"os"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

const errNotDir = unix.ENOTDIR

// replace writes and syncs a file atomically. An existing one keeps its mode.
func replace(dir *os.Root, name string, data []byte) error {
	f, err := renameio.NewPendingFile(name, renameio.WithRoot(dir), renameio.WithPermissions(filePerm), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return errors.Join(err, f.Cleanup())
	}
	return nil
}

// syncDir makes renames in a directory durable.
func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // not supported by some file systems
		return err
	}
	return nil
}
