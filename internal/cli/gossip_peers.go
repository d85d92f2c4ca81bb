package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/kubeapi"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/portforward"
)

type overlayConfig struct {
	overlay gossip.Overlay
	config  cluster.GossipConfig
}

// gossipConfigs returns the overlays that a spec's nodes run, primary first, as
// kOps fills in what the spec leaves out.
func gossipConfigs(spec *cluster.Cluster) []overlayConfig {
	if spec == nil {
		return nil
	}
	primary, secondary := cluster.GossipConfig{}, cluster.GossipConfig{}
	if spec.Gossip != nil {
		primary = *spec.Gossip
		if primary.Secondary != nil {
			secondary = *primary.Secondary
		}
	}
	configs := []overlayConfig{{gossip.Weave, primary}}
	if primary.Protocol == cluster.ProtocolMemberlist {
		configs[0].overlay = gossip.Memberlist
	}
	second := overlayConfig{gossip.Memberlist, secondary}
	if secondary.Protocol == cluster.ProtocolMesh {
		second.overlay = gossip.Weave
	}
	// Two overlays of one protocol, or none: nothing more can be told apart.
	if second.overlay != configs[0].overlay && !secondary.ProtocolEmpty {
		configs = append(configs, second)
	}
	return configs
}

// locate finds out which overlays run at an address.
func (o *gossipFlags) locate(ctx context.Context, text string, spec *cluster.Cluster, found map[gossip.Overlay][]netip.AddrPort) error {
	which, peer, named := strings.Cut(text, "=")
	if !named {
		which, peer = o.overlay, text
	}
	host, port, err := splitPeer(peer)
	if err != nil {
		return err
	}
	overlays, err := overlaysAt(which, peer, port, spec)
	if err != nil {
		return err
	}
	addr, err := lookUp(ctx, text, host)
	if err != nil {
		return err
	}
	for _, overlay := range overlays {
		at := port
		if at == 0 {
			at = overlay.Port()
			for _, g := range gossipConfigs(spec) {
				if g.overlay == overlay && g.config.Listen.Port() != 0 {
					at = g.config.Listen.Port()
				}
			}
		}
		if a := netip.AddrPortFrom(addr, at); !slices.Contains(found[overlay], a) {
			found[overlay] = append(found[overlay], a)
		}
	}
	return nil
}

// overlaysAt works out which overlays a peer's address stands for.
func overlaysAt(which, text string, port uint16, spec *cluster.Cluster) ([]gossip.Overlay, error) {
	byPort := gossip.OverlayOfPort(port)
	both := []gossip.Overlay{gossip.Weave, gossip.Memberlist}
	switch which {
	case string(gossip.Weave), string(gossip.Memberlist):
		return []gossip.Overlay{gossip.Overlay(which)}, nil
	case "both":
		switch {
		case port == 0:
			return both, nil
		case byPort == "":
			return nil, usagef("%s: port %d is no port of kOps's, so nobody knows which of both overlays it is; give the address without a port, or say weave=%s", text, port, text)
		}
		return []gossip.Overlay{byPort}, nil
	case "":
	default:
		return nil, usagef("overlay %q; want weave, kops-memberlist or both", which)
	}
	switch {
	case byPort != "":
		return []gossip.Overlay{byPort}, nil
	case port != 0:
		for _, g := range gossipConfigs(spec) {
			if g.config.Listen.Port() == port {
				return []gossip.Overlay{g.overlay}, nil
			}
		}
		return []gossip.Overlay{anyOverlay}, nil
	case spec != nil:
		var all []gossip.Overlay
		for _, g := range gossipConfigs(spec) {
			all = append(all, g.overlay)
		}
		return all, nil
	}
	return []gossip.Overlay{gossip.Weave}, nil
}

// splitPeer reads HOST, HOST:PORT or an address, IPv6 with or without brackets.
func splitPeer(text string) (host string, port uint16, err error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String(), 0, nil
	}
	if !strings.Contains(text, ":") {
		if text == "" || strings.ContainsAny(text, " /,") {
			return "", 0, usagef("%q is no HOST[:PORT]", text)
		}
		return text, 0, nil
	}
	host, number, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", 0, usagef("%q is no HOST[:PORT]", text)
	}
	p, err := net.LookupPort("tcp", number)
	if err != nil || p == 0 {
		return "", 0, usagef("%q: %q is no port", text, number)
	}
	return host, uint16(p), nil
}

// lookUp finds a host's address, IPv4 first: kOps's overlays listen on it.
func lookUp(ctx context.Context, text, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, usagef("%s: no address for %q; give the node's address", text, host)
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	return addrs[0].Unmap(), nil
}

// newSide makes the way into one overlay. Each visitor and each leaf has a name
// of its own: two peers of one name keep each other out of weave.
func newSide(overlay gossip.Overlay, at []netip.AddrPort, secret []byte, dial visit.Dialer) gossip.Side {
	side := gossip.Side{Overlay: overlay, At: at}
	if overlay == gossip.Memberlist {
		side.Reader = gossip.MemberlistReader{Dial: dial}
		side.NewLeaf = func(at []netip.AddrPort) (gossip.Writer, error) { return gossip.NewMemberlistLeaf(dial, at), nil }
		return side
	}
	side.Reader = gossip.WeaveReader{Config: weave.Config{NodeName: visitorName(), Secret: secret, Dial: dial}}
	side.NewLeaf = func(at []netip.AddrPort) (gossip.Writer, error) {
		return gossip.NewWeaveLeaf(weave.Config{NodeName: visitorName(), Secret: secret, Dial: dial}, at)
	}
	return side
}

// gateway is the way through the API server, if one is asked for, and whom to
// ask through it.
func (o *gossipFlags) gateway(ctx context.Context, s streams, at []string) (visit.Dialer, []string, error) {
	switch {
	case o.via == "" && (o.kubeconfig != "" || o.context != ""):
		return nil, nil, usagef("--kubeconfig and --context are for --via kubernetes")
	case o.via == "":
		return nil, at, nil
	case o.via != "kubernetes":
		return nil, nil, usagef("--via %q; want kubernetes", o.via)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	g, err := portforward.Open(ctx, kubeapi.Config{Kubeconfig: o.kubeconfig, Context: o.context})
	if err != nil {
		return nil, nil, fmt.Errorf("--via kubernetes: %w", err)
	}
	if len(at) == 0 {
		for _, p := range g.Pods() {
			if p.ControlPlane {
				at = append(at, p.Addr.String())
				fmt.Fprintf(s.err, "%s (%s) through pod %s\n", p.Node, p.Addr, p.Name)
			}
		}
		if len(at) == 0 {
			return nil, nil, errors.New("--via kubernetes: no kube-apiserver, kops-controller or dns-controller pod runs with its node's network; give a node's address")
		}
	}
	return g.Dial, at, nil
}

// visitorName says who looks in, for those who look at the overlay themselves.
func visitorName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "somewhere"
	}
	var unique [4]byte
	rand.Read(unique[:]) // never fails
	return gossip.NodePrefix + host + "-" + hex.EncodeToString(unique[:])
}
