package balance

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tune makes the kernel break a connection to a server that has gone silent for
// userTimeout, idle or not.
func tune(conn net.Conn, userTimeout time.Duration) error {
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var tuned error
	err = raw.Control(func(fd uintptr) { tuned = tuneSocket(int(fd), userTimeout) })
	return errors.Join(tuned, err)
}

func tuneSocket(fd int, userTimeout time.Duration) error {
	keepAlive := keepAlive(userTimeout)
	var errs []error
	set := func(name string, level, option, value int) {
		errs = append(errs, os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, level, option, value)))
	}
	set("TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	set("TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Idle.Seconds()))
	set("TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Interval.Seconds()))
	set("SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	return errors.Join(errs...)
}

// connIdle asks the kernel, which notes the time of every segment with data.
func connIdle(conn syscall.Conn) (sent, received time.Duration, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	if failed := raw.Control(func(fd uintptr) { sent, received, ok = socketIdle(int(fd)) }); failed != nil {
		return 0, 0, false
	}
	return sent, received, ok
}

func socketIdle(fd int) (sent, received time.Duration, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0, false
	}
	return time.Duration(info.Last_data_sent) * time.Millisecond, time.Duration(info.Last_data_recv) * time.Millisecond, true
}
