// Package secretfile reads files that contain secrets, and rejects those that other users can read or write.
package secretfile

import (
	"fmt"
	"io"
	"os"
)

// Read returns the contents of a file, of at most limit bytes. It rejects a file that its group or others may read or
// write, with an error that names the file, its mode and the command that corrects it. No error contains the contents. A
// missing file is fs.ErrNotExist. On Windows the mode is not checked, since it does not tell who has access.
func Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Stat the open file, not the path, so that it is the file that is read.
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if err := checkMode(path, info.Mode()); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes; not a secret of ours", path, limit)
	}
	return data, nil
}
