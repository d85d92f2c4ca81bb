package balance

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// door is a listening socket at which several loops wait. The last to leave closes it.
type door struct {
	fd   int
	addr net.Addr

	mu     sync.Mutex
	guests int
}

// openDoor duplicates a listener's socket, for one guest.
func openDoor(ln *net.TCPListener) (*door, error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &door{addr: ln.Addr(), guests: 1}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if d.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); failed == nil {
			// Accepted connections inherit the one, and come with a hello by the other.
			_ = unix.SetsockoptInt(d.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(d.fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1)
		}
	})
	if err = errors.Join(err, os.NewSyscallError("fcntl", failed)); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *door) enter() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.guests++
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.guests--; d.guests == 0 {
		_ = unix.Close(d.fd)
	}
}

// listen has the loop hear of clients. Of several loops that wait, one wakes up.
func (l *loop) listen() error {
	return l.watch(l.door.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
}

// leaveDoor ends that for good; only the first call counts.
func (l *loop) leaveDoor() {
	if !l.listening {
		return
	}
	l.listening, l.again = false, time.Time{}
	l.unwatch(l.door.fd)
	l.door.leave()
}

// mostAtOnce is how many clients are let in before those who are in get their turn.
const mostAtOnce = 8

func (l *loop) accept(now time.Time) {
	for range mostAtOnce {
		// The same from package unix would ask for the protocol as well.
		fd, from, err := syscall.Accept4(l.door.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			l.pause = 0
			l.admit(fd, from, now)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EPROTO):
		default:
			l.rest(now, err)
			return
		}
	}
}

// rest has the loop try again after a while: lack of descriptors or memory passes.
func (l *loop) rest(now time.Time, err error) {
	if l.pause == 0 {
		l.balancer.cfg.Logger.Warn("cannot accept, trying again", "listener", l.door.addr, "error", err)
	}
	l.pause = min(max(2*l.pause, shortestPause), longestPause)
	l.again = now.Add(l.pause)
	l.unwatch(l.door.fd)
}
