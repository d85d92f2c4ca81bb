//go:build linux || darwin || freebsd || netbsd || openbsd

package live

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Redraws reports whether w is a terminal that can redraw.
func Redraws(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// sizeOf returns the size of a terminal; 0 if it does not report it.
func sizeOf(f *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// rawMode makes a terminal return keys one by one without echo; reads time out after a tenth of a second. Interrupts
// work as before. restore undoes it.
func rawMode(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 0, 1
	if err := unix.IoctlSetTermios(fd, setTermios, &now); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, was) }, nil // nothing to do for a terminal that is gone
}
