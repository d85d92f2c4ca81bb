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

// Tuning; see the package comment.
const (
	gossipInterval   = 200 * time.Millisecond
	gossipNodes      = 3
	memberMult       = 6 // times log10(N+1) sends, for membership changes
	recordMult       = 3 // the same, for records
	pushPullInterval = 5 * time.Second
	probeInterval    = 350 * time.Millisecond
	probeTimeout     = 150 * time.Millisecond
	suspicionMult    = 3
	suspicionMaxMult = 4

	// awarenessMax bounds how far a node that suspects itself stretches its probes, here to 1.4 s. It is also how
	// long the last probe can outlive Run.
	awarenessMax = 4

	// streamTimeout bounds a dial, and then an exchange.
	streamTimeout = 2 * time.Second

	// gossipToDeadTime is how long dead members are still gossiped to, so that one that was declared dead by mistake
	// learns of it and refutes.
	gossipToDeadTime = 30 * time.Second

	// reclaimTime is how long the name of a dead member is reserved. Replaced control-plane nodes return under the
	// old name with a new address.
	reclaimTime = time.Second

	// packetSize is the largest datagram before headers, and packetOverhead is for encryption, label and framing. A
	// record must fit in the rest.
	packetSize     = 1400
	packetOverhead = 36

	// delegateProtocol is the version of this package's own messages.
	delegateProtocol = 1
)

// maxCluster is the longest cluster name, in bytes, that leaves room for a record in a packet.
const maxCluster = packetSize - packetOverhead - record.MaxEncoded

// Config configures an overlay.
type Config struct {
	// Cluster is the cluster's name, at most 164 bytes. Packets with another name are refused. Required.
	Cluster string
	// Node is this node's name, as in its certificate. It must be unique: two live nodes of one name exclude each
	// other. Required.
	Node string

	// Bind is the address to listen on, TCP and UDP. The zero value means 127.0.0.1:7946, which only this machine
	// reaches; port 0 means any free port.
	Bind netip.AddrPort
	// Advertise is the address at which other nodes reach this one. The zero value means Bind, which must then be a
	// specific address; port 0 means Bind's port.
	Advertise netip.AddrPort

	// Keyring is the path of the key file: one base64 key of 16, 24 or 32 bytes a line, at most 8; the first one
	// encrypts, all decrypt; '#' starts a comment. Only its owner may be able to read it. It is read again as soon as
	// it changes, so keys are rotated without a restart: add the new key below the old one everywhere, then move it
	// to the top everywhere, then remove the old one. Required.
	Keyring string

	// Seeds returns nodes to join, at start and then every 1 to 15 s; this node itself may be among them. If it fails
	// or returns none, its last result is used, or what it returned with its error if there is none yet. It must
	// return when its context ends. Nil means to wait until others join this node.
	Seeds func(context.Context) ([]netip.AddrPort, error)

	// Verifier decides which records are accepted. Required.
	Verifier record.Verifier

	// Logger gets the overlay's log. Nil discards it.
	Logger *slog.Logger

	// Transport replaces the network, in tests. Bind is then not opened.
	Transport hashicorp.Transport
}

// withDefaults returns c with defaults in place of zero values.
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

// validate returns all faults of c, joined.
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

// upstream returns the memberlist configuration for c.
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
		GossipToTheDeadTime:     gossipToDeadTime,
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

		Delegate: delegate{o},
		Events:   events{o},
		Logger:   log.New(&upstream.LogWriter{Log: o.log, Intercept: o.countLine}, "", 0),
	}
	// If the kernel chooses the port, upstream advertises that.
	if o.cfg.Advertise.Port() != 0 {
		u.AdvertiseAddr = o.cfg.Advertise.Addr().String()
		u.AdvertisePort = int(o.cfg.Advertise.Port())
	}
	return u
}
