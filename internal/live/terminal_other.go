//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package live

import (
	"errors"
	"io"
	"os"
)

// Redraws returns false: on this platform only plain lines work.
func Redraws(io.Writer) bool { return false }

func sizeOf(*os.File) (columns, rows int) { return 0, 0 }

func rawMode(*os.File) (func(), error) { return nil, errors.New("no keys here") }
