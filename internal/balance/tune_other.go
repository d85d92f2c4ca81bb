//go:build !linux

package balance

import (
	"net"
	"syscall"
	"time"
)

// tune makes the kernel break an idle connection to a server that has gone
// silent for userTimeout. Data without acknowledgement is left to the kernel.
func tune(conn net.Conn, userTimeout time.Duration) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	return tcp.SetKeepAliveConfig(keepAlive(userTimeout))
}

// connIdle cannot tell: connections of a draining server go on until
// Config.MoveTimeout.
func connIdle(syscall.Conn) (sent, received time.Duration, ok bool) { return 0, 0, false }
