//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package hosts

import (
	"errors"
	"os"
)

const lockSupported = false

func flock(*os.File) error {
	return errors.ErrUnsupported
}
