package enrol

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSecretFile bounds the size in bytes of a secret file. Keys have a few hundred; the largest such file is the
// token store.
const maxSecretFile = 8 << 20

// writeFile replaces path atomically and durably: a crash leaves the old contents, or after it has returned the new
// ones.
func writeFile(path string, data []byte, perm fs.FileMode) error {
	if err := replaceFile(path, data, perm); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// renameFile moves a file within its directory, durably.
func renameFile(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// refuseExisting returns an error if there is anything at one of the paths, even
// a dangling link.
func refuseExisting(paths ...string) error {
	for _, path := range paths {
		_, err := os.Lstat(path)
		if err == nil {
			return fmt.Errorf("%s exists already; move it away if the cluster no longer needs it", path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
