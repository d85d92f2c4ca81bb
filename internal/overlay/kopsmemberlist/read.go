package kopsmemberlist

import (
	"context"
	"net/netip"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
)

// Reading is the result of one visit.
type Reading = visit.Reading

// Read reads the state of the member at addr over one TCP connection, without becoming a member or being noticed by
// others. It uses cfg.Dial. Without a deadline in ctx it takes at most 20 seconds.
func Read(ctx context.Context, cfg Config, addr netip.AddrPort) (Reading, error) {
	return visit.Read(ctx, cfg.Dial, addr)
}
