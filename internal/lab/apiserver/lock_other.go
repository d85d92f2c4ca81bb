//go:build !linux && !darwin

package apiserver

import (
	"errors"
	"os"
)

type lockMode int

const shared, exclusive lockMode = 0, 1

// tryLock fails: without locks that the kernel releases with the process, servers could not share a directory.
func tryLock(*os.File, lockMode) (bool, error) { return false, errors.ErrUnsupported }
