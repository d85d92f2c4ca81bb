package weave

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/mesh"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// Reading is the result of one visit.
type Reading struct {
	NickName string         // of the peer visited
	Name     wire.Name      // of the peer visited
	State    []legacy.Entry // its whole state
	Peers    []Peer         // as seen by it, including us
	Ties     []legacy.Tie   // within what it sent
}

// Read connects to the peer at addr, reads its whole state, and disconnects. Meanwhile the peer counts us as a
// neighbour; no other peer notices. It uses NodeName, Secret, Dial and Logger of cfg. Without a deadline in ctx it
// takes at most 20 seconds. If the secrets differ and the peer notices first, it disconnects; the error says so, but
// is not ErrSecret.
func Read(ctx context.Context, cfg Config, addr netip.AddrPort) (Reading, error) {
	r, err := read(ctx, cfg, addr)
	if err != nil {
		return Reading{}, fmt.Errorf("read mesh peer %s: %w", addr, err)
	}
	return r, nil
}

func read(ctx context.Context, cfg Config, addr netip.AddrPort) (Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	cfg.Leaf = true
	cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) { return nil, nil }
	n, err := New(cfg)
	if err != nil {
		return Reading{}, err
	}
	conn, err := n.cfg.Dial(ctx, addr)
	if err != nil {
		return Reading{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	l := &link{conn: conn}
	hello, err := n.handshake(l, addr)
	if err != nil {
		return Reading{}, err
	}
	// As a seed it is connected to, whatever is known of the address.
	n.mesh.SetSeeds(time.Now(), []netip.AddrPort{addr})
	if l.id, err = n.mesh.Register(time.Now(), hello); err != nil {
		return Reading{}, err
	}
	for heard := n.mesh.Stats().Messages; heard[wire.ChannelDNS] == 0 || heard[wire.ChannelTopology] == 0; heard = n.mesh.Stats().Messages {
		frame, err := l.session.Read()
		if err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("it told less than everything: %w", ctx.Err())
			}
			return Reading{}, err
		}
		p, err := mesh.Parse(frame)
		if err == nil {
			err = n.mesh.Receive(time.Now(), l.id, p)
		}
		if err != nil {
			return Reading{}, err
		}
	}
	return Reading{NickName: l.remote.NickName, Name: l.remote.Name, State: n.mesh.Entries(), Peers: n.mesh.Peers(), Ties: n.mesh.Ties()}, nil
}
