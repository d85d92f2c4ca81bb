package kopsmemberlist

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/wire"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Tell hands records to the member at addr, over one TCP connection and without
// becoming a member, and returns what it knew before. It takes them as it would
// another member's: those of greater versions. It passes them on only in its
// exchanges of full states, a minute apart and in large overlays four, so
// whoever wants all to know tells all. Of cfg, Dial matters. Without a deadline
// in ctx it takes at most 20 seconds.
func Tell(ctx context.Context, cfg Config, addr netip.AddrPort, entries ...legacy.Entry) (Reading, error) {
	say := wire.AppendFullState(nil, wire.Part{Key: legacy.Channel, Data: legacy.Append(nil, entries...)})
	r, err := read(ctx, cfg, addr, say)
	if err != nil {
		return Reading{}, fmt.Errorf("tell memberlist peer %s: %w", addr, err)
	}
	return r, nil
}
