package upstream

import (
	"context"
	"net"
	"net/netip"
)

// TryBind binds addr, TCP and UDP, and closes it again, to get a proper error: memberlist's own, when a port is
// taken, is text that errors.Is does not see through. For port 0 it does nothing.
func TryBind(ctx context.Context, addr netip.AddrPort) error {
	if addr.Port() == 0 {
		return nil
	}
	var config net.ListenConfig
	tcp, err := config.Listen(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	defer tcp.Close()
	udp, err := config.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		return err
	}
	return udp.Close()
}
