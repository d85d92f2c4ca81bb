package balance

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tune makes the kernel break a connection to a server that has gone silent for
// userTimeout, idle or not.
func tune(conn net.Conn, userTimeout time.Duration) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	keepAlive := keepAlive(userTimeout)
	keepAlive.Count = -1 // the timeout counts in its place
	return errors.Join(tcp.SetKeepAliveConfig(keepAlive), err, os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", failed))
}

// tcpSilence asks the kernel, which notes the time of every segment with data.
func tcpSilence(conn *net.TCPConn) (sent, received time.Duration, ok bool) {
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
