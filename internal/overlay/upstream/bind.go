package upstream

import (
	"context"
	"net"
	"net/netip"
)

// TryBind takes addr, TCP and UDP, and lets go of it, for the sake of its error:
// memberlist's own, when a port is taken, is text that no errors.Is sees through.
// Port 0 is always free.
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
