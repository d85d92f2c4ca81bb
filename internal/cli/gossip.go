package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/weave"
	"github.com/muster-dev/muster/internal/portforward"
	"github.com/muster-dev/muster/internal/secretfile"
)

// gossipFlags are what all gossip commands share.
type gossipFlags struct {
	overlay    string
	cluster    string
	networks   []string
	file       string
	secretFile string
	at         []string
	timeout    time.Duration
	output     string
	via        string
	kubeconfig string
	context    string
}

func newGossip(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gossip",
		Short: "Look into a cluster's gossip, and set single names in it while it migrates",
		Long: `Gossip speaks the two overlays of kOps's protokube as they are: weave (port 3999) and
kops-memberlist (port 4000). It looks in from outside and becomes no member: no peer
routes through it, and its coming and going changes nothing for the others.

  inspect    what is in the overlays, what of it can be believed, what is odd
  watch      what changes, one line each
  publish    set a name, such as api.internal to a load balancer for workers that still gossip
  withdraw   take a name out

Gossip is deprecated: kOps ` + cluster.Deadline().Refused.String() + ` refuses it. These commands are for the way out of it.

` + exitCodes,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGossipInspect(s), newGossipWatch(s), newGossipPublish(s), newGossipWithdraw(s))
	return cmd
}

func (o *gossipFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.overlay, "overlay", "", "weave, kops-memberlist or both (default: by port, 3998 and 3999 are weave, 3993 and 4000 kops-memberlist; without a port as the spec says, else weave)")
	f.StringVar(&o.cluster, "cluster", "", "`name` of the cluster; other names in the overlay are shown as not accepted (default: from the spec, else $KOPS_CLUSTER_NAME)")
	f.StringSliceVar(&o.networks, "network", nil, "`CIDR` that the cluster's addresses lie in; may be repeated (default: from the spec, else private networks)")
	f.StringVarP(&o.file, "filename", "f", "", "kOps `manifest` to take the cluster, its networks and its gossipConfig from")
	f.StringVar(&o.secretFile, "secret-file", "", "`file` with the secret of the weave overlay, mode 0600 (default: from the spec, else empty, as with kOps)")
	f.StringSliceVar(&o.at, "at", nil, "`HOST[:PORT]` of a peer to connect through; may be repeated")
	f.DurationVar(&o.timeout, "timeout", 20*time.Second, "how long a peer may take to tell everything, and a write to arrive")
	f.StringVarP(&o.output, "output", "o", "", "json")
	f.StringVar(&o.via, "via", "", "kubernetes: go through the API server, by port-forwards to pods with their node's network; without an address all control-plane nodes are asked")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` for --via kubernetes (default: $KUBECONFIG, else ~/.kube/config)")
	f.StringVar(&o.context, "context", "", "`name` of the kubeconfig's context (default: its current one)")
}

// gossipScene is what a gossip command works on.
type gossipScene struct {
	expect  gossip.Expect
	sides   []gossip.Side
	unknown []gossip.Target // addresses whose overlay shows only when they are read
	timeout time.Duration
	json    bool
}

// scene reads flags and spec. Its errors are usage errors, on one line, and
// nothing has been asked of anybody yet but the addresses of names.
func (o *gossipFlags) scene(ctx context.Context, s streams, at []string) (gossipScene, error) {
	sc := gossipScene{timeout: o.timeout, json: o.output == "json"}
	if o.output != "" && o.output != "json" {
		return sc, usagef("-o %q; want json", o.output)
	}
	if o.timeout <= 0 || o.timeout > time.Hour {
		return sc, usagef("--timeout %v; want more than 0 and at most 1h", o.timeout)
	}
	spec, err := o.spec()
	if err != nil {
		return sc, err
	}
	if sc.expect, err = o.expect(spec); err != nil {
		return sc, err
	}
	secrets, err := o.secrets(spec)
	if err != nil {
		return sc, err
	}
	sc.expect.Secret = len(secrets) > 0
	at = append(slices.Clone(at), o.at...)
	var dial dialer
	if dial, at, err = o.gateway(ctx, s, at); err != nil {
		return sc, err
	}
	if len(at) == 0 {
		return sc, usagef("no peer to ask; give HOST[:PORT] of a node that gossips")
	}
	found := make(map[gossip.Overlay][]netip.AddrPort)
	for _, text := range at {
		if err := o.locate(ctx, text, spec, found); err != nil {
			return sc, err
		}
	}
	either := gossip.EitherReader{}
	for _, overlay := range []gossip.Overlay{gossip.Weave, gossip.Memberlist} {
		side := newSide(overlay, found[overlay], secrets, dial)
		if len(side.At) > 0 {
			sc.sides = append(sc.sides, side)
		}
		if overlay == gossip.Weave {
			either.Weave = side.Reader
		} else {
			either.Memberlist = side.Reader
		}
	}
	for _, a := range found[anyOverlay] {
		sc.unknown = append(sc.unknown, gossip.Target{Addr: a, Reader: either})
	}
	return sc, nil
}

// anyOverlay stands for whichever overlay answers.
const anyOverlay gossip.Overlay = ""

// lasting is scene for commands that stay connected, and so have to know which
// overlay they connect to.
func (o *gossipFlags) lasting(ctx context.Context, s streams, at []string) (gossipScene, error) {
	sc, err := o.scene(ctx, s, at)
	if err == nil && len(sc.unknown) > 0 {
		err = usagef("%s: port %d is no port of kOps's; say which overlay it is with --overlay", sc.unknown[0].Addr, sc.unknown[0].Addr.Port())
	}
	return sc, err
}

func (o *gossipFlags) spec() (*cluster.Cluster, error) {
	if o.file == "" {
		return nil, nil
	}
	specs, err := readSpecs([]string{o.file})
	if err != nil {
		return nil, err
	}
	return specs[0], nil
}

func (o *gossipFlags) expect(spec *cluster.Cluster) (gossip.Expect, error) {
	var e gossip.Expect
	name := strings.TrimSuffix(o.cluster, ".")
	switch {
	case spec != nil && name != "" && name != spec.Name:
		return e, usagef("--cluster %q, but %s is the spec of %q; drop one of the two", name, o.file, spec.Name)
	case spec != nil:
		name = spec.Name
	case name == "":
		name = os.Getenv("KOPS_CLUSTER_NAME")
	}
	if name == "" {
		return e, usagef("no cluster; give --cluster NAME, or its spec with -f")
	}
	if name != strings.ToLower(name) || strings.ContainsAny(name, " /:,_*") {
		return e, usagef("--cluster %q is no cluster's name; want one such as atlas.k8s.local", name)
	}
	e.Cluster = name
	for _, text := range o.networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return e, usagef("--network %q is no CIDR; want one such as 10.0.0.0/16", text)
		}
		e.Networks = append(e.Networks, p.Masked())
	}
	if spec != nil && len(e.Networks) == 0 {
		e.Networks = append(e.Networks, spec.NetworkCIDRs...)
		for _, subnet := range spec.Subnets {
			if subnet.CIDR.IsValid() {
				e.Networks = append(e.Networks, subnet.CIDR)
			}
		}
	}
	return e, nil
}

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 4096

// secrets returns the password of the weave overlay; kops-memberlist has none.
func (o *gossipFlags) secrets(spec *cluster.Cluster) ([]byte, error) {
	if o.secretFile != "" {
		data, err := secretfile.Read(o.secretFile, maxSecret)
		if err != nil {
			return nil, usagef("--secret-file: %w", err)
		}
		// Editors and echo end a file with a line feed; kOps's secret has none.
		return bytes.TrimRight(data, "\r\n"), nil
	}
	for _, g := range gossipConfigs(spec) {
		if g.overlay == gossip.Weave {
			return []byte(g.config.Secret.Reveal()), nil
		}
	}
	return nil, nil
}

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
	host, port, err := splitPeer(text)
	if err != nil {
		return err
	}
	overlays, err := o.overlays(text, port, spec)
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

func (o *gossipFlags) overlays(text string, port uint16, spec *cluster.Cluster) ([]gossip.Overlay, error) {
	byPort := gossip.OverlayOfPort(port)
	both := []gossip.Overlay{gossip.Weave, gossip.Memberlist}
	switch o.overlay {
	case string(gossip.Weave), string(gossip.Memberlist):
		return []gossip.Overlay{gossip.Overlay(o.overlay)}, nil
	case "both":
		switch {
		case port == 0:
			return both, nil
		case byPort == "":
			return nil, usagef("%s: port %d is no port of kOps's, so nobody knows which of both overlays it is; give the address without a port, or one --overlay", text, port)
		}
		return []gossip.Overlay{byPort}, nil
	case "":
	default:
		return nil, usagef("--overlay %q; want weave, kops-memberlist or both", o.overlay)
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
func newSide(overlay gossip.Overlay, at []netip.AddrPort, secret []byte, dial dialer) gossip.Side {
	side := gossip.Side{Overlay: overlay, At: at}
	if overlay == gossip.Memberlist {
		cfg := kopsmemberlist.Config{Dial: dial}
		side.Reader = gossip.MemberlistReader{Config: cfg}
		side.NewLeaf = func(at []netip.AddrPort) (gossip.Writer, error) { return gossip.NewMemberlistLeaf(cfg, at), nil }
		return side
	}
	side.Reader = gossip.WeaveReader{Config: weave.Config{NodeName: visitorName(), Secret: secret, Dial: dial}}
	side.NewLeaf = func(at []netip.AddrPort) (gossip.Writer, error) {
		return gossip.NewWeaveLeaf(weave.Config{NodeName: visitorName(), Secret: secret, Dial: dial}, at)
	}
	return side
}

// dialer connects to peers; nil is plain TCP.
type dialer func(context.Context, netip.AddrPort) (net.Conn, error)

// gateway is the way through the API server, if one is asked for, and whom to
// ask through it.
func (o *gossipFlags) gateway(ctx context.Context, s streams, at []string) (dialer, []string, error) {
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
	g, err := portforward.Open(ctx, portforward.Config{Kubeconfig: o.kubeconfig, Context: o.context})
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

// printNext tells what to do about gossip, on standard error, so that it is in
// nobody's way.
func (s streams) printNext(o gossipFlags) {
	file := o.file
	if file == "" {
		file = "cluster.yaml"
	}
	d := cluster.Deadline()
	fmt.Fprintf(s.err, "gossip is deprecated: kOps %s refuses it, %s is the only bridge   next: muster rehearse -f %s --to none\n", d.Refused, d.Bridge, file)
}

// writeJSON writes one indented object to standard output.
func writeJSON(s streams, v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// unsafeToRefusal gives refusals of package gossip their exit code.
func unsafeToRefusal(err error) error {
	var unsafe *gossip.UnsafeError
	if errors.As(err, &unsafe) {
		return refusal{err}
	}
	return err
}
