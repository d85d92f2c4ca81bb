package balance

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// reader returns a function that reads what has come over a connection into a buffer
// that it takes when there is something to read: connections that are quiet, as most
// are, hold no memory.
func reader(src net.Conn) func() ([]byte, error) {
	conn, ok := src.(syscall.Conn)
	if !ok {
		return bufferedReader(src)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return bufferedReader(src)
	}
	var buf []byte
	var n int
	var failed error
	read := func(fd uintptr) bool {
		buf = takeBuffer()
		n, failed = read(int(fd), buf)
		if errors.Is(failed, unix.EAGAIN) {
			giveBuffer(buf)
			return false
		}
		return true
	}
	return func() ([]byte, error) {
		if err := raw.Read(read); err != nil {
			return nil, err
		}
		if n <= 0 {
			giveBuffer(buf)
			if failed == nil {
				failed = io.EOF
			}
			return nil, failed
		}
		return buf[:n], nil
	}
}

// splicer moves long stretches from one connection to another inside the kernel
// (splice(2)), through a pipe that it makes when there is one to move.
type splicer struct {
	dst, src          net.Conn
	to, from          syscall.RawConn
	readEnd, writeEnd int // of the pipe; 0 before there is one
}

// newSplicer returns nil for connections that the kernel does not know.
func newSplicer(dst, src net.Conn) *splicer {
	d, ok := dst.(syscall.Conn)
	s, also := src.(syscall.Conn)
	if !ok || !also {
		return nil
	}
	to, err := d.SyscallConn()
	if err != nil {
		return nil
	}
	from, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return &splicer{dst: dst, src: src, to: to, from: from}
}

// stretch is how much is asked of the kernel at once.
const stretch = 1 << 20

// move splices what comes from src for as long as it comes in bulk, and returns which
// side failed. The end of src is no failure; the next read sees it.
func (s *splicer) move(count func(uint64)) (failed net.Conn) {
	if s == nil || !s.open() {
		return nil
	}
	for {
		n, err := s.splice(s.from.Read, func(fd int) (int64, error) {
			return unix.Splice(fd, nil, s.writeEnd, nil, stretch, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		})
		if errors.Is(err, unix.EINVAL) {
			return nil // not between these; nothing was moved
		}
		if err != nil {
			return s.src
		}
		for left := n; left > 0; {
			m, err := s.splice(s.to.Write, func(fd int) (int64, error) {
				return unix.Splice(s.readEnd, nil, fd, nil, int(left), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
			})
			if err != nil {
				return s.dst
			}
			left -= m
		}
		count(uint64(n))
		if n < bufferSize {
			// No longer bulk: a read and a write are cheaper than two splices.
			return nil
		}
	}
}

// splice calls once until it would not block.
func (s *splicer) splice(wait func(func(fd uintptr) bool) error, once func(fd int) (int64, error)) (n int64, err error) {
	waited := wait(func(fd uintptr) bool {
		n, err = once(int(fd))
		for errors.Is(err, unix.EINTR) {
			n, err = once(int(fd))
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}

// open makes the pipe, unless there is one, and reports whether there is.
func (s *splicer) open() bool {
	if s.writeEnd != 0 {
		return true
	}
	var ends [2]int
	if unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return false
	}
	s.readEnd, s.writeEnd = ends[0], ends[1]
	// A larger pipe needs fewer calls, and an ordinary one works as well.
	_, _ = unix.FcntlInt(uintptr(s.writeEnd), unix.F_SETPIPE_SZ, stretch)
	return true
}

func (s *splicer) close() {
	if s != nil && s.writeEnd != 0 {
		_ = unix.Close(s.readEnd)
		_ = unix.Close(s.writeEnd)
	}
}
