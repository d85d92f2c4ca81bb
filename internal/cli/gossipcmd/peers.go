package gossipcmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/kubeapi"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
	"github.com/muster-dev/muster/internal/portforward"
)

// locate resolves a peer, and adds its address to each overlay that runs there.
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
			for _, g := range gossip.Configured(spec) {
				if g.Overlay == overlay && g.Config.Listen.Port() != 0 {
					at = g.Config.Listen.Port()
				}
			}
		}
		if a := netip.AddrPortFrom(addr, at); !slices.Contains(found[overlay], a) {
			found[overlay] = append(found[overlay], a)
		}
	}
	return nil
}

// overlaysAt returns the overlays that a peer's address stands for.
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
			return nil, console.Usagef("%s: port %d is no port of kOps's, so nobody knows which of both overlays it is; give the address without a port, or say weave=%s", text, port, text)
		}
		return []gossip.Overlay{byPort}, nil
	case "":
	default:
		return nil, console.Usagef("overlay %q; want weave, kops-memberlist or both", which)
	}
	switch {
	case byPort != "":
		return []gossip.Overlay{byPort}, nil
	case port != 0:
		for _, g := range gossip.Configured(spec) {
			if g.Config.Listen.Port() == port {
				return []gossip.Overlay{g.Overlay}, nil
			}
		}
		return []gossip.Overlay{anyOverlay}, nil
	case spec != nil:
		var all []gossip.Overlay
		for _, g := range gossip.Configured(spec) {
			all = append(all, g.Overlay)
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
			return "", 0, console.Usagef("%q is no HOST[:PORT]", text)
		}
		return text, 0, nil
	}
	host, number, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", 0, console.Usagef("%q is no HOST[:PORT]", text)
	}
	p, err := net.LookupPort("tcp", number)
	if err != nil || p == 0 {
		return "", 0, console.Usagef("%q: %q is no port", text, number)
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
		return netip.Addr{}, console.Usagef("%s: no address for %q; give the node's address", text, host)
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	return addrs[0].Unmap(), nil
}

// gateway returns the dialer through the API server, nil for none, and the peers to ask.
func (o *gossipFlags) gateway(ctx context.Context, s console.Streams, at []string) (visit.Dialer, []string, error) {
	switch {
	case o.via == "" && (o.kubeconfig != "" || o.context != ""):
		return nil, nil, console.Usagef("--kubeconfig and --context are for --via kubernetes")
	case o.via == "":
		return nil, at, nil
	case o.via != "kubernetes":
		return nil, nil, console.Usagef("--via %q; want kubernetes", o.via)
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
				fmt.Fprintf(s.Err, "%s (%s) through pod %s\n", p.Node, p.Addr, p.Name)
			}
		}
		if len(at) == 0 {
			return nil, nil, errors.New("--via kubernetes: no kube-apiserver, kops-controller or dns-controller pod runs with its node's network; give a node's address")
		}
	}
	return g.Dial, at, nil
}
