package kopsmemberlist

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// readTimeout bounds Read if its context does not.
const readTimeout = 20 * time.Second

// Reading is what one member told in one visit.
type Reading struct {
	State   []legacy.Entry // its whole state
	Members []Member       // as it sees them, itself included
	Ties    []legacy.Tie   // within what it sent
}

// Read asks the member at addr for all that it knows, over one TCP connection.
// We do not become a member, and nobody else notices. Of cfg, Dial matters.
// Without a deadline in ctx it takes at most 20 seconds.
func Read(ctx context.Context, cfg Config, addr netip.AddrPort) (Reading, error) {
	r, err := read(ctx, cfg, addr, nil)
	if err != nil {
		return Reading{}, fmt.Errorf("read memberlist peer %s: %w", addr, err)
	}
	return r, nil
}

func read(ctx context.Context, cfg Config, addr netip.AddrPort, say []byte) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	dial := cfg.Dial
	if dial == nil {
		dial = dialTCP
	}
	conn, err := dial(ctx, addr)
	if err != nil {
		return Reading{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	x, err := exchange(conn, say)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it told less than everything: %w", ctx.Err())
		}
		return Reading{}, err
	}
	var state legacy.State
	var ties []legacy.Tie
	err = wire.ScanFullState(x.State, func(p wire.Part) error {
		if p.Key != legacy.Channel {
			return nil
		}
		merged, err := state.Merge(p.Data)
		ties = append(ties, merged.Ties...)
		return err
	})
	if err != nil {
		return Reading{}, err
	}
	return Reading{State: state.Entries(), Members: x.Members, Ties: ties}, nil
}

// exchange says state, which may be empty, and hears the other side's.
func exchange(conn net.Conn, state []byte) (wire.Exchange, error) {
	if _, err := conn.Write(wire.AppendRequest(nil, state)); err != nil {
		return wire.Exchange{}, err
	}
	return wire.ReadExchange(conn)
}

func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", to.String())
}
