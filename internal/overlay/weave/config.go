package weave

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// DefaultPort is protokube's port.
const DefaultPort = 3999

// Config configures a peer.
type Config struct {
	// NodeName is the peer's name. It must be unique in the mesh: two live peers of one name cannot both take part.
	// Required, at most 1024 bytes.
	NodeName string

	// Listen is the address on which a full participant accepts connections; port 0 means any free one. A specific
	// address is also the source of its own connections, and its port is used to dial peers of which only an address
	// is known: all peers of a cluster must listen on the same port. Required, except for a leaf, which does not
	// listen.
	Listen netip.AddrPort

	// Secret is the shared password of all peers. None is the same as an empty one, which is kOps's default:
	// encrypted, but open to anybody.
	Secret []byte

	// Seeds returns addresses of possible peers; port 0 means the port of Listen, or DefaultPort for a leaf. It is
	// called at the start, then every hour, or every minute after an error or while there is no connection, and has
	// 30 seconds to return. An empty result is ignored. A leaf needs it; a full participant without it waits for
	// others to dial.
	Seeds func(context.Context) ([]netip.AddrPort, error)

	// Leaf makes a peer that receives and writes but relays nothing.
	Leaf bool

	// Links is how many peers a leaf stays connected to, as far as there are seeds. With more it receives changes
	// more reliably. Default 3.
	Links int

	// Refresh is how often a leaf opens its oldest connection again, the only way to get the whole state: it bounds
	// how long a leaf can miss a change. Default 5 minutes; negative means never.
	Refresh time.Duration

	// ConnLimit is the maximum number of connections, whoever dialled; 0 means no limit. Original peers dial every
	// peer, and retry a full one less and less often.
	ConnLimit int

	// NoDiscovery keeps a full participant from dialling peers that it learns of from others. It then depends on its
	// seeds and on being dialled.
	NoDiscovery bool

	// Dial is how to connect to an address, for instance through a forwarded port. Default: TCP.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	// Logger gets the peer's log; nil discards it.
	Logger *slog.Logger
}

const maxNodeName = 1024

func (c Config) validate() error {
	var errs []error
	if c.NodeName == "" || len(c.NodeName) > maxNodeName {
		errs = append(errs, fmt.Errorf("node name of %d bytes; give one of 1 to %d", len(c.NodeName), maxNodeName))
	}
	if c.Leaf && c.Seeds == nil {
		errs = append(errs, errors.New("a leaf without seeds has nobody to listen to"))
	}
	if !c.Leaf && !c.Listen.IsValid() {
		errs = append(errs, errors.New("a full participant needs an address to listen on, such as 0.0.0.0:3999"))
	}
	if c.ConnLimit < 0 || c.Links < 0 {
		errs = append(errs, errors.New("numbers of connections cannot be negative"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Links == 0 {
		c.Links = 3
	}
	switch {
	case c.Refresh == 0:
		c.Refresh = 5 * time.Minute
	case c.Refresh < 0:
		c.Refresh = 0
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("overlay", "weave", "node", c.NodeName)
	return c
}
