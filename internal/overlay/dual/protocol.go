package dual

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/weave"
)

// Protocols, by the names they have in kOps's configuration.
const (
	Mesh       = "mesh"       // kOps's default for the primary
	Memberlist = "memberlist" // kOps's default for the secondary
)

// Settings are one overlay's in a kOps configuration (gossipConfig, or its
// secondary).
type Settings struct {
	// Protocol is Mesh or Memberlist. Required.
	Protocol string
	// NodeName names this node to the mesh; memberlist makes names of its own.
	// Required for Mesh.
	NodeName string
	// Listen is the address to listen on. Required, unless Leaf is set for Mesh.
	Listen netip.AddrPort
	// Secret is the mesh's password, empty by default. Memberlist has none: kOps
	// accepts one there and does not use it, and so do we, with a warning.
	Secret []byte
	// Seeds is where other nodes may be; port 0 stands for the port of Listen.
	Seeds func(context.Context) ([]netip.AddrPort, error)
	// Leaf takes part without being relied on. Mesh only.
	Leaf bool
}

// Side returns what makes the overlay of these settings.
func (s Settings) Side(logger *slog.Logger) (Side, error) {
	switch s.Protocol {
	case Mesh:
		return Side{Name: Mesh, Make: func() (Overlay, error) {
			return weave.New(weave.Config{NodeName: s.NodeName, Listen: s.Listen, Secret: s.Secret, Seeds: s.Seeds, Leaf: s.Leaf, Logger: logger})
		}}, nil
	case Memberlist:
		if len(s.Secret) > 0 && logger != nil {
			logger.Warn("the memberlist overlay of kOps ignores its secret: it is neither encrypted nor authenticated")
		}
		return Side{Name: Memberlist, Make: func() (Overlay, error) {
			return kopsmemberlist.New(kopsmemberlist.Config{Listen: s.Listen, Seeds: s.Seeds, Logger: logger})
		}}, nil
	}
	return Side{}, fmt.Errorf("gossip protocol %q: kOps knows %q and %q", s.Protocol, Mesh, Memberlist)
}
