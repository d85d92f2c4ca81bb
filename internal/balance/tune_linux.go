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
	keepAlive := keepAlive(userTimeout)
	var errs []error
	set := func(fd uintptr, name string, level, option, value int) {
		errs = append(errs, os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(int(fd), level, option, value)))
	}
	err = raw.Control(func(fd uintptr) {
		set(fd, "TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		set(fd, "TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Idle.Seconds()))
		set(fd, "TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Interval.Seconds()))
		set(fd, "SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	})
	return errors.Join(append(errs, err)...)
}

// tcpSilence asks the kernel, which notes the time of every segment with data.
func tcpSilence(conn syscall.Conn) (sent, received time.Duration, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var info *unix.TCPInfo
	ctlErr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if ctlErr != nil || err != nil {
		return 0, 0, false
	}
	return time.Duration(info.Last_data_sent) * time.Millisecond, time.Duration(info.Last_data_recv) * time.Millisecond, true
}
