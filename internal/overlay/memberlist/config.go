package memberlist

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"time"

	hashicorp "github.com/hashicorp/memberlist"

	"github.com/muster-dev/muster/internal/overlay/upstream"
	"github.com/muster-dev/muster/internal/record"
)

// DefaultPort is the overlay's port, TCP and UDP.
const DefaultPort = 7946

// The tuning that the package comment explains.
const (
	gossipInterval   = 200 * time.Millisecond
	gossipNodes      = 3
	memberMult       = 6 // of log10(N+1) sends, for news about members
	recordMult       = 3 // the same, for records
	pushPullInterval = 5 * time.Second
	probeInterval    = 350 * time.Millisecond
	probeTimeout     = 150 * time.Millisecond
	suspicionMult    = 3
	suspicionMaxMult = 4

	// awarenessMax bounds how far a node that doubts itself stretches its
	// probes, here to 1.4 s. It is also how long a last probe can outlive Run.
	awarenessMax = 4

	// streamTimeout bounds a dial and, anew, an exchange.
	streamTimeout = 2 * time.Second

	// deadTime is how long the dead are still gossiped to, so that one that was
	// declared dead by mistake hears of it and refutes.
	deadTime = 30 * time.Second

	// reclaimTime is how long a dead member's name is its own. Replaced
	// control-plane nodes come back under the old name with a new address.
	reclaimTime = time.Second

	// packetSize is the largest datagram before headers, and packetOverhead what
	// encryption, label and framing take of it. What is left holds a record.
	packetSize     = 1400
	packetOverhead = 36

	// delegateProtocol is the version of what this package itself says.
	delegateProtocol = 1
)

// maxCluster is how long a cluster's name can be for a record to fit a packet.
const maxCluster = packetSize - packetOverhead - record.MaxEncoded

// Config says how a node takes part in an overlay.
type Config struct {
	// Cluster is the cluster's name. Packets of overlays with another name are
	// refused. At most 164 bytes. Required.
	Cluster string
	// Node is this node's name, as in its certificate. Two live nodes of one name
	// keep each other out. Required.
	Node string

	// Bind is the address to listen on, TCP and UDP. The zero value means
	// 127.0.0.1:7946, which only this machine reaches; port 0 takes a free port.
	Bind netip.AddrPort
	// Advertise is the address that other nodes reach this one at. The zero value
	// means Bind, which must then be one machine's address; port 0 means Bind's
	// port.
	Advertise netip.AddrPort

	// Keyring is the path of the key file: one base64 key of 16, 24 or 32 bytes a
	// line, at most 8; the first one encrypts, all decrypt; '#' starts a comment.
	// Only its owner may be able to read it. It is read again as soon as it
	// changes, so keys are rotated without a restart: add the new key below the
	// old one everywhere, then move it to the top everywhere, then remove the old
	// one. Required.
	Keyring string

	// Seeds names nodes to join, at start and from then on every 1 to 15 s; this
	// node itself may be among them. While it fails or names none, its last answer
	// is used, or what came along with its error if there was none yet. It must
	// return when its context ends. Nil means to wait until others join this node.
	Seeds func(context.Context) ([]netip.AddrPort, error)

	// Verifier decides which records are believed. Required.
	Verifier record.Verifier

	// Logger takes the overlay's log. Nil discards it.
	Logger *slog.Logger

	// Transport replaces the network, in tests. Bind is then not opened.
	Transport hashicorp.Transport
}

// withDefaults fills in what zero values mean.
func (c Config) withDefaults() Config {
	if !c.Bind.IsValid() {
		c.Bind = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), DefaultPort)
	}
	if !c.Advertise.IsValid() {
		c.Advertise = c.Bind
	} else if c.Advertise.Port() == 0 {
		c.Advertise = netip.AddrPortFrom(c.Advertise.Addr(), c.Bind.Port())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate reports every fault of c.
func (c Config) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.Cluster == "", "gossip: no cluster name")
	fault(len(c.Cluster) > maxCluster, "gossip: cluster name has %d bytes; at most %d leave room for a record in a packet", len(c.Cluster), maxCluster)
	fault(c.Node == "", "gossip: no node name")
	fault(c.Keyring == "", "gossip: no keyring; the overlay is always encrypted")
	fault(c.Advertise.Addr().IsUnspecified(), "gossip: other nodes cannot reach %s; set the address to advertise", c.Advertise.Addr())
	fault(c.Verifier.Identity.Roots == nil, "gossip: no certificate authority to verify records with")
	fault(c.Verifier.Identity.Cluster != c.Cluster, "gossip: records are verified for cluster %q, the overlay is %q", c.Verifier.Identity.Cluster, c.Cluster)
	fault(len(c.Verifier.Names) == 0, "gossip: no names that records may be about")
	return errors.Join(errs...)
}

// upstream is the configuration of memberlist that c amounts to.
func (o *Overlay) upstream() *hashicorp.Config {
	u := &hashicorp.Config{
		Name:      o.cfg.Node,
		Label:     o.cfg.Cluster,
		Transport: o.cfg.Transport,
		BindAddr:  o.cfg.Bind.Addr().String(),
		BindPort:  int(o.cfg.Bind.Port()),

		ProtocolVersion:         hashicorp.ProtocolVersionMax,
		DelegateProtocolMin:     delegateProtocol,
		DelegateProtocolMax:     delegateProtocol,
		DelegateProtocolVersion: delegateProtocol,

		Keyring:              o.keys.ring,
		GossipVerifyIncoming: true,
		GossipVerifyOutgoing: true,

		GossipInterval:          gossipInterval,
		GossipNodes:             gossipNodes,
		GossipToTheDeadTime:     deadTime,
		RetransmitMult:          memberMult,
		PushPullInterval:        pushPullInterval,
		ProbeInterval:           probeInterval,
		ProbeTimeout:            probeTimeout,
		IndirectChecks:          3,
		SuspicionMult:           suspicionMult,
		SuspicionMaxTimeoutMult: suspicionMaxMult,
		AwarenessMaxMultiplier:  awarenessMax,
		TCPTimeout:              streamTimeout,
		DeadNodeReclaimTime:     reclaimTime,

		UDPBufferSize:      packetSize,
		HandoffQueueDepth:  1024,
		QueueCheckInterval: 30 * time.Second,

		Delegate: spread{o},
		Events:   events{o},
		Logger:   log.New(&upstream.LogWriter{Log: o.log, Take: o.takeLine}, "", 0),
	}
	// With a port that the kernel chooses, upstream advertises what it got.
	if o.cfg.Advertise.Port() != 0 {
		u.AdvertiseAddr = o.cfg.Advertise.Addr().String()
		u.AdvertisePort = int(o.cfg.Advertise.Port())
	}
	return u
}
