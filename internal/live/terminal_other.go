//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package live

import (
	"errors"
	"io"
	"os"
)

// Redraws is false: where no terminal is known, plain lines are what works.
func Redraws(io.Writer) bool { return false }

func sizeOf(*os.File) (columns, rows int) { return 0, 0 }

func quiet(*os.File) (func(), error) { return nil, errors.New("no keys here") }
