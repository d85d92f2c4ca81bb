//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package live

import (
	"errors"
	"io"
	"os"
)

// redraws is false: where no terminal is known, plain lines are what works.
func redraws(io.Writer) bool { return false }

func columns(*os.File) int { return 0 }

func quiet(*os.File) (func(), error) { return nil, errors.New("no keys here") }
