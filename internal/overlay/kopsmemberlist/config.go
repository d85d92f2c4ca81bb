package kopsmemberlist

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/upstream"
)

// DefaultPort is protokube's port, TCP and UDP.
const DefaultPort = 4000

// kOps's configuration.
const (
	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 3 // at least; see multiplier
	probeInterval  = time.Second
	probeTimeout   = 500 * time.Millisecond
	awarenessMax   = 8
	packetSize     = 1400
)

// Where this member differs.
const (
	// streamTimeout bounds a dial, and then an exchange. kOps has twice that, but it would delay the end of Run.
	streamTimeout = 5 * time.Second
	// pushPullInterval is how often full states are exchanged with a random member; upstream stretches it in large
	// overlays. kOps has twice that.
	pushPullInterval = 30 * time.Second
	// memberMult times log10(N+1) is how often a membership change is gossiped. kOps has 4: of 40 members that start
	// together, some then miss another for minutes, and a writer sends nothing to a member that it does not know.
	memberMult = 6
)

// Config configures a member.
type Config struct {
	// NodeName is the member's name. Two members of one name exclude each other, and a name cannot move to another
	// address while any member remembers it. Default: a new one of 26 characters, as kOps uses at each start; leave
	// it so.
	NodeName string

	// Listen is the address to listen on, TCP and UDP; port 0 means any free port. Seeds without a port are joined at
	// its port. Required.
	Listen netip.AddrPort

	// Advertise is the address at which others reach this member. Default: Listen, or if that is unspecified
	// (0.0.0.0) the first private address of this machine.
	Advertise netip.Addr

	// Seeds returns addresses of possible members; port 0 means the port of Listen. This member may be among them. It
	// is called at the start, then every hour, or every minute after an error or while there is no other member, and
	// has 10 seconds to return. An empty result is ignored. Nil means to wait until others join this member.
	Seeds func(context.Context) ([]netip.AddrPort, error)

	// Dial is how Read connects to addr, for instance through a forwarded port. Default: TCP. A Node does not use it.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	// Logger gets the member's log; nil discards it.
	Logger *slog.Logger

	// Transport replaces the network, in tests. Listen is then not opened.
	Transport hashicorp.Transport
}

func (c Config) validate() error {
	var errs []error
	if !c.Listen.IsValid() {
		errs = append(errs, errors.New("no address to listen on, such as 0.0.0.0:4000"))
	}
	if c.Advertise.IsValid() && c.Advertise.IsUnspecified() {
		errs = append(errs, fmt.Errorf("others cannot reach %s; advertise a machine's address", c.Advertise))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.NodeName == "" {
		c.NodeName = newName(time.Now())
	}
	c.Logger = c.Logger.With("overlay", "kops-memberlist")
	if !c.Advertise.IsValid() {
		c.Advertise = c.Listen.Addr()
		if c.Advertise.IsUnspecified() {
			var err error
			if c.Advertise, err = firstPrivate(); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// firstPrivate returns the address to advertise: a private address of this machine.
func firstPrivate() (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the address to advertise: %w", err)
	}
	if a := pickPrivate(all); a.IsValid() {
		return a, nil
	}
	return netip.Addr{}, errors.New("this machine has no private address to advertise; listen on a specific one")
}

// pickPrivate prefers IPv4, which kOps advertises.
func pickPrivate(all []net.Addr) (best netip.Addr) {
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsPrivate() {
			continue
		}
		if ip := p.Addr().Unmap(); ip.Is4() {
			return ip
		} else if !best.IsValid() {
			best = ip
		}
	}
	return best
}

// multiplier is the number of members gossiped to at a time, and upstream's multiplier of retransmissions.
func multiplier(seeds int) int { return max(gossipNodes, seeds/2) }

// upstream returns the memberlist configuration for n.
func (n *Node) upstream(seeds int) *hashicorp.Config {
	u := hashicorp.DefaultLANConfig()
	u.Name = n.cfg.NodeName
	u.Transport = n.cfg.Transport
	u.BindAddr, u.BindPort = n.cfg.Listen.Addr().String(), int(n.cfg.Listen.Port())
	// If the kernel chooses the port, upstream advertises that.
	if n.cfg.Listen.Port() != 0 {
		u.AdvertiseAddr, u.AdvertisePort = n.cfg.Advertise.String(), int(n.cfg.Listen.Port())
	}
	u.ProtocolVersion = hashicorp.ProtocolVersion2Compatible
	u.GossipInterval, u.GossipNodes = gossipInterval, multiplier(seeds)
	u.PushPullInterval, u.RetransmitMult = pushPullInterval, memberMult
	u.ProbeInterval, u.ProbeTimeout = probeInterval, probeTimeout
	u.AwarenessMaxMultiplier = awarenessMax
	u.TCPTimeout = streamTimeout
	u.UDPBufferSize = packetSize
	u.EnableCompression = true
	u.Delegate, u.Events, u.Alive, u.Ping = delegate{n}, events{n}, alive{}, acks{}
	u.LogOutput, u.Logger = nil, log.New(&upstream.LogWriter{Log: n.cfg.Logger}, "", 0)
	return u
}
