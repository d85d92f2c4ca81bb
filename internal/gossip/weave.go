package gossip

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// refreshLeaf bounds how long a weave leaf can miss a change. Only a new connection gets the full state; afterwards a
// leaf gets what its neighbours happen to pass on.
const refreshLeaf = time.Minute

// WeaveReader reads peers of the weave overlay. It uses NodeName, Secret and Dial of Config. Each visit appends a
// random suffix to the node name, because weave refuses a second peer of the same name.
type WeaveReader struct{ Config weave.Config }

// Read implements Reader.
func (r WeaveReader) Read(ctx context.Context, addr netip.AddrPort) (View, error) {
	cfg := r.Config
	var unique [4]byte
	rand.Read(unique[:]) // never fails
	cfg.NodeName += "-" + hex.EncodeToString(unique[:])
	got, err := weave.Read(ctx, cfg, addr)
	if err != nil {
		return View{}, explainWeave(addr, err, len(r.Config.Secret) > 0)
	}
	v := View{Overlay: Weave, Addr: addr, Node: clip(got.NickName, maxName), NodeID: got.Name.String(), State: got.State, Ties: got.Ties}
	v.Peers = weavePeers(got.Peers, got.Name, addr)
	return v, nil
}

// explainWeave adds a hint to an error: what to do about it.
func explainWeave(addr netip.AddrPort, err error, secret bool) error {
	var hint string
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		hint = "no answer; is the port right (protokube: 3999) and open from here? --via kubernetes goes through the API server"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nothing listens there; protokube listens on 3999, dns-controller on 3998 of the same node"
	case errors.Is(err, weave.ErrSecret), hungUp && strings.Contains(err.Error(), "secrets differ"):
		hint = "the secret differs; give the one of spec.gossipConfig.secret with --secret-file"
		if secret {
			hint = "the secret differs from the one given; compare it with spec.gossipConfig.secret"
		}
	case errors.Is(err, weave.ErrCollision):
		hint = "run it again; names are drawn anew"
	case hungUp, errors.Is(err, weave.ErrVersion), errors.Is(err, weave.ErrPlaintext), strings.Contains(err.Error(), "not the greeting"):
		hint = "no weave peer of kOps answers there; try --overlay kops-memberlist, or port 3999"
	default:
		return err
	}
	return fmt.Errorf("%w; %s", err, hint)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// weavePeers converts peers: it leaves us out, sets the address of the peer asked, and derives the states and
// addresses of the others.
func weavePeers(all []weave.Peer, asked wire.Name, addr netip.AddrPort) []Peer {
	var self wire.Name
	for _, p := range all {
		if p.Self {
			self = p.Name
		}
	}
	peerAddrs := weaveAddrs(all, addr.Addr().IsLoopback())
	peerAddrs[asked] = addr
	var peers []Peer
	for _, p := range all {
		if p.Self {
			continue
		}
		peer := Peer{ID: p.Name.String(), NickName: clip(p.NickName, maxName), Addr: peerAddrs[p.Name], State: Reachable}
		switch {
		case p.Name == asked:
			peer.State = Connected // it answered
		case !p.Reachable:
			peer.State = Unreachable
		case slices.ContainsFunc(all, func(q weave.Peer) bool { return q.Name == asked && hasLink(q, p.Name) }):
			peer.State = Connected
		}
		for _, l := range p.Links {
			if l.Name != self {
				peer.Links = append(peer.Links, l.Name.String())
			}
		}
		peers = append(peers, peer)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.Label(), b.Label()) })
	return peers
}

func hasLink(p weave.Peer, name wire.Name) bool {
	return slices.ContainsFunc(p.Links, func(l wire.Link) bool { return l.Name == name })
}

// weaveAddrs derives where peers listen: at the address that another peer dialled, else at the default port of the
// address from which it dialled another. Loopback addresses count only if we are on the same machine.
func weaveAddrs(all []weave.Peer, loopback bool) map[wire.Name]netip.AddrPort {
	peerAddrs := make(map[wire.Name]netip.AddrPort)
	dialed := make(map[wire.Name]bool)
	for _, p := range all {
		for _, l := range p.Links {
			a, err := netip.ParseAddrPort(l.Addr)
			if err != nil || a.Addr().IsLoopback() != loopback || dialed[l.Name] {
				continue
			}
			if !l.Outbound {
				a = netip.AddrPortFrom(a.Addr(), weave.DefaultPort)
			}
			peerAddrs[l.Name], dialed[l.Name] = a, l.Outbound
		}
	}
	return peerAddrs
}

// WeaveLeaf is a leaf of the weave overlay.
type WeaveLeaf struct {
	node *weave.Node
	name string
}

// NewWeaveLeaf returns a leaf that connects to peers at the given addresses. It uses NodeName, Secret, Dial and
// Logger of cfg.
func NewWeaveLeaf(cfg weave.Config, peerAddrs []netip.AddrPort) (*WeaveLeaf, error) {
	cfg.Leaf = true
	cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) { return peerAddrs, nil }
	cfg.Refresh = refreshLeaf
	node, err := weave.New(cfg)
	if err != nil {
		return nil, err
	}
	return &WeaveLeaf{node, cfg.NodeName}, nil
}

// Run implements Leaf.
func (l *WeaveLeaf) Run(ctx context.Context) error { return l.node.Run(ctx) }

// Synced implements Leaf.
func (l *WeaveLeaf) Synced() <-chan struct{} { return l.node.Synced() }

// Changed implements Leaf.
func (l *WeaveLeaf) Changed() <-chan struct{} { return l.node.Changed() }

// State implements Leaf.
func (l *WeaveLeaf) State() []legacy.Entry { return l.node.State() }

// Peers implements Leaf.
func (l *WeaveLeaf) Peers() []Peer {
	all := l.node.Peers()
	connected := make(map[string]bool)
	for _, p := range all {
		connected[p.Name.String()] = p.Connected
	}
	peers := weavePeers(all, wire.Name{}, netip.AddrPort{})
	for i, p := range peers {
		if connected[p.ID] {
			peers[i].State = Connected
		}
	}
	return peers
}

// Told implements Leaf.
func (l *WeaveLeaf) Told(key string) string {
	heard, ok := l.node.Heard(key)
	if !ok {
		return ""
	}
	label := heard.From.String()
	for _, p := range l.node.Peers() {
		if p.Name == heard.From && p.NickName != "" {
			label = clip(p.NickName, maxName)
		}
	}
	switch {
	case heard.From == wire.NameOf(l.name):
		return "us"
	case heard.Origin:
		return "written by " + label
	}
	return "first told by " + label
}

// Put implements Writer.
func (l *WeaveLeaf) Put(ctx context.Context, key, value string) error {
	if err := l.node.Publish(key, value); err != nil {
		return err
	}
	return l.node.Flush(ctx)
}

// Delete implements Writer.
func (l *WeaveLeaf) Delete(ctx context.Context, key string) error {
	if err := l.node.Delete(key); err != nil {
		return err
	}
	return l.node.Flush(ctx)
}
