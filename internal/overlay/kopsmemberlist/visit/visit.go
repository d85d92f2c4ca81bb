// Package visit looks into kOps's memberlist overlay over one TCP connection,
// and hands records to a member, without becoming one: nobody else notices.
//
// It is apart from package kopsmemberlist because it needs nothing of upstream:
// a program that only visits does not link a member, nor the templates that
// upstream's codec brings along.
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

// within bounds a visit if its context does not.
const within = 20 * time.Second

// Dialer connects to a member; nil is plain TCP.
type Dialer func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// Reading is what one member told in one visit.
type Reading struct {
	State   []legacy.Entry // its whole state
	Members []wire.Member  // as it sees them, itself included
	Ties    []legacy.Tie   // within what it sent
}

// Read asks the member at addr for all that it knows. Without a deadline in ctx
// it takes at most 20 seconds.
func Read(ctx context.Context, dial Dialer, addr netip.AddrPort) (Reading, error) {
	r, err := visit(ctx, dial, addr, nil)
	if err != nil {
		return Reading{}, fmt.Errorf("read memberlist peer %s: %w", addr, err)
	}
	return r, nil
}

// Tell hands records to the member at addr, and returns what it knew before. It
// takes them as it would another member's: those of greater versions. It passes
// them on only in its exchanges of full states, a minute apart and in large
// overlays four, so whoever wants all to know tells all. Without a deadline in
// ctx it takes at most 20 seconds.
func Tell(ctx context.Context, dial Dialer, addr netip.AddrPort, entries ...legacy.Entry) (Reading, error) {
	say := wire.AppendFullState(nil, wire.Part{Key: legacy.Channel, Data: legacy.Append(nil, entries...)})
	r, err := visit(ctx, dial, addr, say)
	if err != nil {
		return Reading{}, fmt.Errorf("tell memberlist peer %s: %w", addr, err)
	}
	return r, nil
}

func visit(ctx context.Context, dial Dialer, addr netip.AddrPort, say []byte) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
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
