// Package visit reads kOps's memberlist overlay over one TCP connection, and sends records to a member, without
// becoming a member or being noticed by others.
//
// It is separate from package kopsmemberlist because it does not need upstream: a program that only visits links
// neither a member nor the templates that upstream's codec brings along.
package visit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// visitTimeout bounds a visit if its context does not.
const visitTimeout = 20 * time.Second

// Dialer connects to a member; nil is plain TCP.
type Dialer func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// Reading is the result of one visit.
type Reading struct {
	State   []legacy.Entry // its whole state
	Members []wire.Member  // as seen by it, itself included
	Ties    []legacy.Tie   // within what it sent
}

// Read reads the whole state of the member at addr. Without a deadline in ctx it takes at most 20 seconds.
func Read(ctx context.Context, dial Dialer, addr netip.AddrPort) (Reading, error) {
	r, err := visit(ctx, dial, addr, nil)
	if err != nil {
		return Reading{}, fmt.Errorf("read memberlist peer %s: %w", addr, err)
	}
	return r, nil
}

// Push sends records to the member at addr, and returns its previous state. It merges them like another member's:
// greater versions win. It passes them on only in its exchanges of full states, a minute apart and in large overlays
// four, so to reach all members send to all. Without a deadline in ctx it takes at most 20 seconds.
func Push(ctx context.Context, dial Dialer, addr netip.AddrPort, entries ...legacy.Entry) (Reading, error) {
	payload := wire.AppendFullState(nil, wire.Part{Key: legacy.Channel, Data: legacy.Append(nil, entries...)})
	r, err := visit(ctx, dial, addr, payload)
	if err != nil {
		return Reading{}, fmt.Errorf("tell memberlist peer %s: %w", addr, err)
	}
	return r, nil
}

func visit(ctx context.Context, dial Dialer, addr netip.AddrPort, payload []byte) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	if dial == nil {
		dial = dialTCP
	}
	conn, err := dial(ctx, addr)
	if err != nil {
		return Reading{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	x, err := exchange(conn, payload)
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

// exchange sends state, which may be empty, and reads the other side's.
func exchange(conn net.Conn, state []byte) (wire.Exchange, error) {
	if _, err := conn.Write(wire.AppendRequest(nil, state)); err != nil {
		return wire.Exchange{}, err
	}
	return wire.ReadExchange(conn)
}

func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", to.String())
}
