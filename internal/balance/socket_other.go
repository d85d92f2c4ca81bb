//go:build !linux

package balance

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// dial connects to addr until then, or until ctx ends. DialTCP would bind the socket
// before it connects, so that a port is used for one server only at a time.
func dial(ctx context.Context, until time.Time, addr netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, Deadline: until} // for keep-alive see tune
	return dialer.DialContext(ctx, "tcp", addr.String())
}
