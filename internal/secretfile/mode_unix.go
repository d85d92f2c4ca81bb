//go:build !windows

package secretfile

import (
	"fmt"
	"io/fs"
)

func checkMode(path string, mode fs.FileMode) error {
	if mode.Perm()&0o077 != 0 {
		return fmt.Errorf("%s: mode %#o lets others at this secret; run: chmod 600 %s", path, mode.Perm(), path)
	}
	return nil
}
