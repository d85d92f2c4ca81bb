//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hosts

import (
	"errors"
	"os"
	"syscall"
)

const lockSupported = true

// flock locks the open file exclusively, without waiting.
func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case errors.Is(err, syscall.EINTR):
			continue
		default:
			return &os.PathError{Op: "flock", Path: file.Name(), Err: err}
		}
	}
}
