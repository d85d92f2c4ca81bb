package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// Overlay is one of kOps's two gossip overlays.
type Overlay string

// The overlays.
const (
	Weave      Overlay = "weave"
	Memberlist Overlay = "kops-memberlist"
)

// Port returns protokube's port. dns-controller uses 3998 in weave and 3993 in kops-memberlist.
func (o Overlay) Port() uint16 {
	if o == Memberlist {
		return 4000
	}
	return 3999
}

// OverlayOfPort returns the overlay that kOps runs on a port, or "".
func OverlayOfPort(port uint16) Overlay {
	switch port {
	case 3998, 3999:
		return Weave
	case 3993, 4000:
		return Memberlist
	}
	return ""
}

// PeerState is the state of a peer, as seen by the peer that was read.
type PeerState string

// The states. Weave knows Connected, Reachable and Unreachable; kops-memberlist
// knows Alive, Suspect, Dead and Left.
const (
	Connected   PeerState = "connected"   // to the peer that was read
	Reachable   PeerState = "reachable"   // over connections that others report
	Unreachable PeerState = "unreachable" // known, but no connection leads to it
	Alive       PeerState = "alive"
	Suspect     PeerState = "suspect" // does not answer probes; soon dead
	Dead        PeerState = "dead"
	Left        PeerState = "left" // announced it
)

// Gone reports whether the peer cannot be reached, though it did not leave.
func (s PeerState) Gone() bool { return s == Unreachable || s == Suspect || s == Dead }

// Peer is one peer of an overlay.
type Peer struct {
	// ID is unique in the overlay: the hash of the node name in weave, a random
	// name that is new at each start in kops-memberlist.
	ID string
	// NickName is the node name in weave, often a cloud's instance id. Empty if only other peers mention it, and in
	// kops-memberlist.
	NickName string
	// Addr is where the peer listens, according to others; zero if unknown.
	Addr  netip.AddrPort
	State PeerState
	// Links are the IDs of the peers that it claims to be connected to.
	Links []string
}

// Label returns what people call the peer.
func (p Peer) Label() string {
	switch {
	case p.NickName != "":
		return p.NickName
	case p.Addr.IsValid():
		return p.Addr.String()
	}
	return p.ID
}

// View is the state of one peer, read in one visit.
type View struct {
	Overlay Overlay
	Addr    netip.AddrPort // that was asked
	Node    string         // who answered: its node name, or its address
	NodeID  string         // its ID among Peers, if that is known
	State   []legacy.Entry
	Peers   []Peer       // without ourselves
	Ties    []legacy.Tie // within what it sent
}

// Reader reads a peer's state. Its errors say what to do, and contain no secret.
type Reader interface {
	Read(ctx context.Context, addr netip.AddrPort) (View, error)
}

// EitherReader reads a peer whose overlay is not known.
type EitherReader struct{ Weave, Memberlist Reader }

// Read implements Reader. The view says which overlay it was.
func (r EitherReader) Read(ctx context.Context, addr netip.AddrPort) (View, error) {
	v, errWeave := r.Weave.Read(ctx, addr)
	if errWeave == nil {
		return v, nil
	}
	v, errMemberlist := r.Memberlist.Read(ctx, addr)
	if errMemberlist == nil {
		return v, nil
	}
	return View{}, fmt.Errorf("%s answers as neither overlay; weave: %w; kops-memberlist: %w", addr, errWeave, errMemberlist)
}

// Target is a peer to visit.
type Target struct {
	Overlay Overlay
	Addr    netip.AddrPort
	Reader  Reader
}

// Failure is a peer that could not be read.
type Failure struct {
	Overlay Overlay
	Addr    netip.AddrPort
	Err     error
}

// maxReads bounds concurrent reads: each transfers a whole topology.
const maxReads = 8

// ReadAll reads all targets, each for at most the given time, and returns the views and the failures, both in the
// order of the targets.
func ReadAll(ctx context.Context, targets []Target, each time.Duration) ([]View, []Failure) {
	views, errs := make([]View, len(targets)), make([]error, len(targets))
	var group sync.WaitGroup
	slots := make(chan struct{}, maxReads)
	for i, t := range targets {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			visit, cancel := context.WithTimeout(ctx, each)
			defer cancel()
			views[i], errs[i] = t.Reader.Read(visit, t.Addr)
		})
	}
	group.Wait()
	var read []View
	var failed []Failure
	for i, t := range targets {
		if errs[i] != nil {
			failed = append(failed, Failure{t.Overlay, t.Addr, errs[i]})
			continue
		}
		read = append(read, views[i])
	}
	return read, failed
}

// UnsafeError is a request that could cost a node its path to the control plane. Nothing has been written.
type UnsafeError struct{ Reason string }

// Error implements error.
func (e *UnsafeError) Error() string { return e.Reason }

func unsafef(format string, args ...any) error {
	return &UnsafeError{fmt.Sprintf(format, args...)}
}

// PrivateNetworks are the default of Expect.Networks: RFC 1918 and unique local addresses.
func PrivateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"),
	}
}

func inside(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}
