package weave

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

const dialTimeout = 10 * time.Second

// Connections accepted in a second, and at once. A handshake is cheap and ends within ten seconds, so this bounds
// both the work and the connections that strangers can cause; a cluster that starts as a whole gets through.
const (
	acceptRate  = 50
	acceptBurst = 100
)

func listenTCP(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
}

// accept accepts connections until the listener is closed.
func (n *Node) accept(ctx context.Context, listener net.Listener) error {
	limit := rate.NewLimiter(acceptRate, acceptBurst)
	for {
		if limit.Wait(ctx) != nil {
			return nil
		}
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of file descriptors, for instance, which may pass.
			n.log.Warn("cannot accept a connection", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		n.group.Go(func() error {
			if err := n.serve(ctx, conn, netip.AddrPort{}); err != nil {
				n.log.Debug("refused a connection", "from", conn.RemoteAddr().String(), "reason", err)
			}
			return nil
		})
	}
}

func (n *Node) dial(ctx context.Context, addr netip.AddrPort) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := n.cfg.Dial(dialCtx, addr)
	cancel()
	if err == nil {
		err = n.serve(ctx, conn, addr)
	}
	if err != nil && ctx.Err() == nil {
		n.withMesh(func(now time.Time) { n.mesh.Failed(now, addr, err) })
	}
}

// dialTCP connects from the address we listen on, because others learn our address from the source of our
// connections.
func (n *Node) dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if from := n.cfg.Listen.Addr(); !n.cfg.Leaf && from.IsValid() && !from.IsUnspecified() && from.Is4() == to.Addr().Is4() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// addrPort returns the address of a listener or connection.
func addrPort(a net.Addr) netip.AddrPort {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
