package kopsmemberlist

import (
	"context"
	"net/netip"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
)

// Reading is what one member told in one visit.
type Reading = visit.Reading

// Read asks the member at addr for all that it knows, over one TCP connection.
// We do not become a member, and nobody else notices. Of cfg, Dial matters.
// Without a deadline in ctx it takes at most 20 seconds.
func Read(ctx context.Context, cfg Config, addr netip.AddrPort) (Reading, error) {
	return visit.Read(ctx, cfg.Dial, addr)
}
