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

// DefaultPort is where protokube listens, TCP and UDP.
const DefaultPort = 4000

// What kOps configures.
const (
	gossipInterval = 200 * time.Millisecond
	gossipNodes    = 3 // at least; see multiplier
	probeInterval  = time.Second
	probeTimeout   = 500 * time.Millisecond
	awarenessMax   = 8
	packetSize     = 1400
)

// Where this member does otherwise, for itself.
const (
	// streamTimeout bounds a dial and, anew, an exchange. kOps has twice that; one
	// that takes longer holds up the end of Run.
	streamTimeout = 5 * time.Second
	// pushPullInterval is how often full states are exchanged with a random member,
	// stretched by upstream in large overlays. kOps has twice that.
	pushPullInterval = 30 * time.Second
	// memberMult is of log10(N+1) how often news about members is gossiped. kOps has
	// 4: of 40 that start together, some then miss another for minutes, and whom a
	// writer does not know it sends nothing.
	memberMult = 6
)

// Config describes a member.
type Config struct {
	// NodeName names the member. Two members of one name keep each other out, and
	// a name cannot move to another address while anybody remembers it. Default: a
	// new one of 26 characters, as kOps makes at each start; leave it so.
	NodeName string

	// Listen is where others reach this member, TCP and UDP; port 0 takes any free
	// one. Its port is also where seeds are joined that have none. Required.
	Listen netip.AddrPort

	// Advertise is what others are told to reach this member at. Default: Listen,
	// and if that is no machine's address (0.0.0.0), the first private address of
	// this machine.
	Advertise netip.Addr

	// Seeds returns addresses at which members may be found; port 0 stands for the
	// port of Listen. Our own may be among them. It is asked at the start, then
	// every hour, or every minute after an error or as long as there is nobody
	// else, and has 10 seconds to answer. An empty answer is ignored. A member
	// without it waits for others to join it.
	Seeds func(context.Context) ([]netip.AddrPort, error)

	// Dial replaces the way that Read connects to addr, for instance by a forwarded
	// port. Default: TCP. A Node does not use it.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	// Logger gets what happens; nil discards it.
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
		c.NodeName = freshName(time.Now())
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

// firstPrivate returns the address that others reach this machine at.
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

// pickPrivate prefers IPv4, which is what kOps advertises.
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

// multiplier is to how many members news is gossiped at a time, and how many
// times more often the more members there are.
func multiplier(seeds int) int { return max(gossipNodes, seeds/2) }

// upstream is the configuration of memberlist that this one amounts to.
func (n *Node) upstream(seeds int) *hashicorp.Config {
	u := hashicorp.DefaultLANConfig()
	u.Name = n.cfg.NodeName
	u.Transport = n.cfg.Transport
	u.BindAddr, u.BindPort = n.cfg.Listen.Addr().String(), int(n.cfg.Listen.Port())
	// With a port that the kernel chooses, upstream advertises what it got.
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
	u.Delegate, u.Events, u.Alive, u.Ping = spread{n}, events{n}, alive{}, acks{}
	u.LogOutput, u.Logger = nil, log.New(&upstream.LogWriter{Log: n.cfg.Logger}, "", 0)
	return u
}
