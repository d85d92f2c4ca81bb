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

// listenSocket is a listening socket that loops share. The last to release it closes it.
type listenSocket struct {
	fd   int
	addr net.Addr

	mu   sync.Mutex
	refs int
}

// newListenSocket duplicates a listener's socket. The caller holds the first reference.
func newListenSocket(ln *net.TCPListener) (*listenSocket, error) {
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &listenSocket{addr: ln.Addr(), refs: 1}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if s.fd, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); failed == nil {
			// Accepted connections inherit TCP_NODELAY; TCP_DEFER_ACCEPT holds them back
			// until the client has sent something.
			_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1)
		}
	})
	if err = errors.Join(err, os.NewSyscallError("fcntl", failed)); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *listenSocket) retain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs++
}

func (s *listenSocket) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs--; s.refs == 0 {
		_ = unix.Close(s.fd)
	}
}

// listen adds the listening socket to the loop's epoll set. One of the loops that share
// it wakes up for each client.
func (l *loop) listen() error {
	return l.watch(l.socket.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
}

// stopListening removes the listening socket for good; only the first call counts.
func (l *loop) stopListening() {
	if !l.listening {
		return
	}
	l.listening, l.acceptAt = false, time.Time{}
	l.unwatch(l.socket.fd)
	l.socket.release()
}

// maxAccepts is how many clients are accepted before other events get their turn.
const maxAccepts = 8

func (l *loop) accept(now time.Time) {
	for range maxAccepts {
		// unix.Accept4 makes another system call, for the protocol.
		fd, from, err := syscall.Accept4(l.socket.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			l.backoff = 0
			l.admit(fd, from, now)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EPROTO):
		default:
			l.backOff(now, err)
			return
		}
	}
}

// backOff stops accepting for a while: lack of descriptors or memory passes.
func (l *loop) backOff(now time.Time, err error) {
	if l.backoff == 0 {
		l.balancer.cfg.Logger.Warn("cannot accept, trying again", "listener", l.socket.addr, "error", err)
	}
	l.backoff = min(max(2*l.backoff, minAcceptBackoff), maxAcceptBackoff)
	l.acceptAt = now.Add(l.backoff)
	l.unwatch(l.socket.fd)
}
