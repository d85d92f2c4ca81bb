//go:build linux || darwin

package apiserver

import (
	"errors"
	"os"
	"syscall"
)

type lockMode int

const (
	shared    lockMode = syscall.LOCK_SH
	exclusive lockMode = syscall.LOCK_EX
)

// tryLock reports whether it got the lock, without waiting.
func tryLock(file *os.File, mode lockMode) (bool, error) {
	err := syscall.Flock(int(file.Fd()), int(mode)|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}
