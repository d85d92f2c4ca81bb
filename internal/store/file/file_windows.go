package file

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"

	"golang.org/x/sys/windows"
)

const errNotDir = windows.ERROR_DIRECTORY

// replace writes a file atomically. renameio does not build on Windows.
func replace(dir *os.Root, name string, data []byte) error {
	temp := "." + name + strconv.FormatUint(rand.Uint64(), 10)
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(temp))
	}
	return nil
}

// syncDir does nothing: Windows has no such call for directories.
func syncDir(*os.Root, string) error { return nil }
