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

// DefaultPort is where protokube listens.
const DefaultPort = 3999

// Config describes a peer.
type Config struct {
	// NodeName names the peer. It must be unique in the mesh: two live peers of
	// one name cannot both take part. Required, at most 1024 bytes.
	NodeName string

	// Listen is where a full participant accepts connections; port 0 takes any
	// free one. A specific address is also the source of its own connections,
	// and its port is where peers are dialed of whom only an address is known:
	// all peers of a cluster have to listen on the same port. Required, unless
	// Leaf is set, which listens nowhere.
	Listen netip.AddrPort

	// Secret is the password that all peers share. None is the same as an empty
	// one, which is kOps's default: encrypted, but open to anybody.
	Secret []byte

	// Seeds returns addresses at which peers may be found; port 0 stands for the
	// port of Listen, or DefaultPort for a leaf. It is asked at the start, then
	// every hour, or every minute after an error or as long as there is no
	// connection, and has 30 seconds to answer. An empty answer is ignored. A
	// leaf needs it; a full participant without it waits for others to dial.
	Seeds func(context.Context) ([]netip.AddrPort, error)

	// Leaf makes a peer that reads and writes but is never relied on.
	Leaf bool

	// Links is how many peers a leaf stays connected with, as far as there are
	// seeds. More make it hear of changes more reliably. Default 3.
	Links int

	// Refresh is how often a leaf makes its oldest connection again, which is
	// the only way to be told the whole state: it bounds how long a leaf can
	// miss a change. Default 5 minutes; negative means never.
	Refresh time.Duration

	// ConnLimit is the greatest number of connections, whoever dialed; 0 means
	// no limit. Peers of the original dial everybody and come back to a full
	// peer ever more rarely.
	ConnLimit int

	// NoDiscovery keeps a full participant from dialing peers that it learns of
	// from others. It then depends on its seeds and on being dialed.
	NoDiscovery bool

	// Dial replaces the way of connecting to addr, for instance by a forwarded
	// port. Default: TCP.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	// Logger gets what happens; nil discards it.
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
