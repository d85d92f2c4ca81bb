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
	return errors.Join(tcp.SetKeepAliveConfig(keepAlive(userTimeout)), err, os.NewSyscallError("setsockopt TCP_USER_TIMEOUT", failed))
}
