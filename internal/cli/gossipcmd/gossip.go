package gossipcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist/visit"
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

// NewGossip returns muster gossip.
func NewGossip(s console.Streams) *cobra.Command {
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

` + console.ExitCodes,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGossipInspect(s), newGossipWatch(s), newGossipPublish(s), newGossipWithdraw(s))
	return cmd
}

func (o *gossipFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.overlay, "overlay", "", "weave, kops-memberlist or both (default: by port, 3998 and 3999 are weave, 3993 and 4000 kops-memberlist; without a port as the spec says, else weave); OVERLAY=HOST:PORT says it for one address")
	f.StringVar(&o.cluster, "cluster", "", "`name` of the cluster; other names in the overlay are shown as not accepted (default: from the spec, else $KOPS_CLUSTER_NAME)")
	f.StringSliceVar(&o.networks, "network", nil, "`CIDR` that the cluster's addresses lie in; may be repeated (default: from the spec, else private networks)")
	f.StringVarP(&o.file, "filename", "f", "", "kOps `manifest` to take the cluster, its networks and its gossipConfig from, or - for standard input")
	f.StringVar(&o.secretFile, "secret-file", "", "`file` with the secret of the weave overlay, mode 0600 (default: from the spec, else empty, as with kOps)")
	f.StringSliceVar(&o.at, "at", nil, "`HOST[:PORT]` of a peer to connect through; may be repeated")
	f.DurationVar(&o.timeout, "timeout", 20*time.Second, "how long a peer may take to tell everything, and a write to arrive")
	f.StringVarP(&o.output, "output", "o", "", "json")
	f.StringVar(&o.via, "via", "", "kubernetes: go through the API server, by port-forwards to pods with their node's network; without an address all control-plane nodes are asked")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` for --via kubernetes (default: $KUBECONFIG, else ~/.kube/config)")
	f.StringVar(&o.context, "context", "", "`name` of the kubeconfig's context (default: its current one)")
}

// session is what a gossip command works on.
type session struct {
	expect  gossip.Expect
	sides   []gossip.Side
	unknown []gossip.Target // addresses whose overlay is known only once they answer
	timeout time.Duration
	json    bool
}

// session reads flags and spec, and resolves names, or finds pods if the way leads
// through the API server. It asks no peer.
func (o *gossipFlags) session(ctx context.Context, s console.Streams, at []string) (session, error) {
	sc := session{timeout: o.timeout, json: o.output == "json"}
	if o.output != "" && o.output != "json" {
		return sc, console.Usagef("-o %q; want json", o.output)
	}
	if o.timeout <= 0 || o.timeout > time.Hour {
		return sc, console.Usagef("--timeout %v; want more than 0 and at most 1h", o.timeout)
	}
	spec, err := o.spec(ctx, s)
	if err != nil {
		return sc, err
	}
	if sc.expect, err = o.expect(spec); err != nil {
		return sc, err
	}
	secret, err := o.secret(spec)
	if err != nil {
		return sc, err
	}
	sc.expect.Secret = len(secret) > 0
	at = append(slices.Clone(at), o.at...)
	var dial visit.Dialer
	if dial, at, err = o.gateway(ctx, s, at); err != nil {
		return sc, err
	}
	if len(at) == 0 {
		return sc, console.Usagef("no peer to ask; give HOST[:PORT] of a node that gossips")
	}
	found := make(map[gossip.Overlay][]netip.AddrPort)
	for _, text := range at {
		if err := o.locate(ctx, text, spec, found); err != nil {
			return sc, err
		}
	}
	either := gossip.EitherReader{}
	for _, overlay := range []gossip.Overlay{gossip.Weave, gossip.Memberlist} {
		side := gossip.NewSide(overlay, found[overlay], secret, dial)
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

// lastingSession is session for commands that stay connected, and so must know which
// overlay they connect to.
func (o *gossipFlags) lastingSession(ctx context.Context, s console.Streams, at []string) (session, error) {
	sc, err := o.session(ctx, s, at)
	if err == nil && len(sc.unknown) > 0 {
		err = console.Usagef("%s: port %d is no port of kOps's; say which overlay it is: weave=%s, or --overlay", sc.unknown[0].Addr, sc.unknown[0].Addr.Port(), sc.unknown[0].Addr)
	}
	return sc, err
}

func (o *gossipFlags) spec(ctx context.Context, s console.Streams) (*cluster.Cluster, error) {
	if o.file == "" {
		return nil, nil
	}
	m, err := s.ReadManifest(ctx, o.file)
	return m.Spec, err
}

func (o *gossipFlags) expect(spec *cluster.Cluster) (gossip.Expect, error) {
	var e gossip.Expect
	name := strings.TrimSuffix(o.cluster, ".")
	switch {
	case spec != nil && name != "" && name != spec.Name:
		return e, console.Usagef("--cluster %q, but %s is the spec of %q; drop one of the two", name, o.file, spec.Name)
	case spec != nil:
		name = spec.Name
	case name == "":
		name = os.Getenv("KOPS_CLUSTER_NAME")
	}
	if name == "" {
		return e, console.Usagef("no cluster; give --cluster NAME, or its spec with -f")
	}
	if name != strings.ToLower(name) || strings.ContainsAny(name, " /:,_*") {
		return e, console.Usagef("--cluster %q is no cluster's name; want one such as atlas.k8s.local", name)
	}
	e.Cluster = name
	for _, text := range o.networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return e, console.Usagef("--network %q is no CIDR; want one such as 10.0.0.0/16", text)
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

// secret returns the password of the weave overlay; kops-memberlist has none.
func (o *gossipFlags) secret(spec *cluster.Cluster) ([]byte, error) {
	if o.secretFile != "" {
		data, err := secretfile.Read(o.secretFile, maxSecret)
		if err != nil {
			return nil, console.Usagef("--secret-file: %w", err)
		}
		// Editors and echo end a file with a line feed; kOps's secret has none.
		return bytes.TrimRight(data, "\r\n"), nil
	}
	for _, g := range gossip.Configured(spec) {
		if g.Overlay == gossip.Weave {
			return []byte(g.Config.Secret.Reveal()), nil
		}
	}
	return nil, nil
}

// printSilent names the peers that did not answer while others did.
func printSilent(s console.Streams, failed []gossip.Failure) {
	for _, f := range failed {
		fmt.Fprintf(s.Err, "going on without %s: %v\n", f.Addr, f.Err)
	}
}

// printDeprecation says on standard error that gossip ends, and what to type next.
func printDeprecation(s console.Streams, o gossipFlags) {
	file := o.file
	if file == "" {
		file = "cluster.yaml"
	}
	d := cluster.Deadline()
	fmt.Fprintf(s.Err, "gossip is deprecated: kOps %s refuses it, %s is the only bridge   next: muster rehearse -f %s --to none\n", d.Refused, d.Bridge, file)
}

// unsafeToRefusal gives refusals of package gossip their exit code.
func unsafeToRefusal(err error) error {
	var unsafe *gossip.UnsafeError
	if errors.As(err, &unsafe) {
		return console.Refusal{Err: err}
	}
	return err
}
