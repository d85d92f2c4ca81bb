package enrol

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSecretFile bounds what is read as a secret. Keys are a few hundred bytes;
// the largest such file is the token store.
const maxSecretFile = 8 << 20

// ReadSecretFile returns the contents of a file that holds a secret. A file that
// its group or others may read or write is refused: whoever could have read the
// secret has it, and whoever could have written it has chosen it. The error then
// names the file, its mode and the command that repairs it. A missing file gives
// an error that is fs.ErrNotExist. On Windows, where the mode says nothing about
// who may read, it is not checked.
func ReadSecretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The open file is asked, not the path, so that both answers are about the
	// same file.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err := checkSecretMode(path, info.Mode()); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxSecretFile {
		return nil, fmt.Errorf("%s: larger than %d bytes; not a secret of ours", path, maxSecretFile)
	}
	return data, nil
}

// writeFile replaces path atomically and durably: when it returns, a crash
// leaves the new contents, and before that the old ones.
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
