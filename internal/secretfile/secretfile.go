// Package secretfile reads files that hold secrets, and refuses those that
// others could have read or written.
package secretfile

import (
	"fmt"
	"io"
	"os"
)

// Read returns the contents of a file that holds a secret, of at most limit
// bytes. A file that its group or others may read or write is refused: whoever
// could have read the secret has it, and whoever could have written it has chosen
// it. The error then names the file, its mode and the command that repairs it; no
// error shows what stands in the file. A missing file gives an error that is
// fs.ErrNotExist. On Windows, where the mode says nothing about who may read, it
// is not checked.
func Read(path string, limit int64) ([]byte, error) {
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
