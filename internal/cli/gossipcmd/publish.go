package gossipcmd

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/gossip"
)

type publishOptions struct {
	gossipFlags
	yes       bool
	checkPort uint16
	noCheck   string
	hold      bool
	duration  time.Duration
	force     bool // withdraw only
}

func newGossipPublish(s console.Streams) *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish NAME ADDRESS... --at HOST[:PORT] --cluster NAME [--yes]",
		Short: "Set a name in a cluster's gossip",
		Long: `Publish sets the addresses of one of the cluster's names in its gossip, as a leaf that no
peer relies on. Its use: point api.internal at the load balancer, so that workers that
still gossip survive every change of the control plane.

Without --yes it shows what would change and changes nothing. It refuses (exit 4) names
that are not the cluster's, addresses outside its networks, an empty list, and addresses
that do not answer from here: each has to finish a TLS handshake on its port (443;
3988 for kops-controller) with a certificate for the name. If nodes reach what this
machine cannot, give --no-check with the reason.

After writing it asks other peers, over connections of their own, whether it has arrived.
Any writer may replace the value: dns-controller does when its pods change or it
restarts. --hold stays, writes it again whenever that happens, and says who did; it
backs off from a writer that insists, and gives way while the addresses do not answer.

To go back: end the hold, then
  kubectl -n kube-system rollout restart deployment dns-controller
whose write replaces this one without a gap.

` + console.ExitCodes,
		Example: `  muster gossip publish api.internal.atlas.k8s.local 172.20.9.9 --at 172.20.0.4,172.20.0.5 -f cluster.yaml
  muster gossip publish api.internal.atlas.k8s.local 172.20.9.9 --at 172.20.0.4 -f cluster.yaml --hold --yes`,
		RunE: func(cmd *cobra.Command, args []string) error { return runPublish(cmd.Context(), s, o, args) },
	}
	o.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.yes, "yes", false, "write")
	f.Uint16Var(&o.checkPort, "check-port", 0, "`port` on which the addresses have to answer (default: 443, or 3988 for kops-controller)")
	f.StringVar(&o.noCheck, "no-check", "", "do not try the addresses; the `reason` is printed with the result")
	f.BoolVar(&o.hold, "hold", false, "stay, and write it again whenever another writer has replaced it")
	f.DurationVar(&o.duration, "for", 0, "how long to hold (default: until interrupted)")
	return cmd
}

func newGossipWithdraw(s console.Streams) *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "withdraw NAME --at HOST[:PORT] --cluster NAME [--yes]",
		Short: "Take a name out of a cluster's gossip",
		Long: `Withdraw puts a tombstone at one of the cluster's names. Gossip keeps one value a name:
what stood there before a publication does not come back by itself. Until the next
write, nodes keep the addresses they have in their hosts file, and a node that boots
finds none. dns-controller writes again when its pods change or it restarts, and its
write replaces a tombstone like any other value.

So this is refused (exit 4) for a name that holds addresses, unless --force is given. To
undo a publication without a gap, do not withdraw; let dns-controller overwrite it:
  kubectl -n kube-system rollout restart deployment dns-controller
Withdrawing is right once no node gossips any more.

Without --yes it shows what would change and changes nothing.

` + console.ExitCodes,
		Example: `  muster gossip withdraw api.internal.atlas.k8s.local --at 172.20.0.4 -f cluster.yaml --force --yes`,
		RunE:    func(cmd *cobra.Command, args []string) error { return runWithdraw(cmd.Context(), s, o, args) },
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "write")
	cmd.Flags().BoolVar(&o.force, "force", false, "withdraw even though a node that boots then finds nothing")
	return cmd
}

// publishResult is what publish and withdraw print as JSON.
type publishResult struct {
	Changes  []gossip.Change  `json:"changes"`
	Kept     []string         `json:"kept,omitempty"` // records of the other family, which stay
	Written  bool             `json:"written"`
	NoCheck  string           `json:"noCheck,omitempty"`
	Arrivals []gossip.Arrival `json:"arrivals"`
}

func (o publishOptions) publication(cmd string, args []string) (gossip.Publication, error) {
	var p gossip.Publication
	if len(args) == 0 {
		return p, console.Usagef("no name; see muster gossip %s --help", cmd)
	}
	p.Name = strings.TrimSuffix(args[0], ".")
	for _, text := range args[1:] {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return p, console.Usagef("%q is no address; kOps's gossip holds addresses, so give what the load balancer's name resolves to", text)
		}
		p.Addrs = append(p.Addrs, a.Unmap())
	}
	if o.duration < 0 || o.duration > 0 && !o.hold {
		return p, console.Usagef("--for %v; want more than 0, together with --hold", o.duration)
	}
	return p, nil
}

func runPublish(ctx context.Context, s console.Streams, o publishOptions, args []string) error {
	p, err := o.publication("publish", args)
	if err != nil {
		return err
	}
	sc, err := o.lastingSession(ctx, s, nil)
	if err != nil {
		return err
	}
	if err := p.Check(sc.expect); err != nil {
		return unsafeToRefusal(err)
	}
	var check func(context.Context) error
	if o.noCheck == "" {
		port := o.checkPort
		if port == 0 {
			port = gossip.CheckPort(p.Name)
		}
		check = func(ctx context.Context) error { return gossip.CheckAnswers(ctx, p, port) }
		if err := check(ctx); err != nil {
			return unsafeToRefusal(err)
		}
	}
	result, views, err := sc.changes(ctx, s, p)
	if err != nil {
		return err
	}
	result.NoCheck = o.noCheck
	if !o.yes {
		return sc.preview(s, o, result, views)
	}
	if err := sc.write(ctx, s, o, result); err != nil || !o.hold {
		return err
	}
	fmt.Fprintln(s.Err, "holding; Ctrl-C ends it and leaves the value in place")
	return streamEvents(ctx, s, o.duration, sc.json, func(ctx context.Context, emit func(gossip.Event)) error {
		return gossip.Hold(ctx, sc.sides, gossip.Holding{Changes: result.Changes, Check: check, Within: sc.timeout}, emit)
	})
}

func runWithdraw(ctx context.Context, s console.Streams, o publishOptions, args []string) error {
	p, err := o.publication("withdraw", args)
	if err != nil {
		return err
	}
	if len(p.Addrs) > 0 {
		return console.Usagef("withdraw takes no addresses; to set others use muster gossip publish")
	}
	sc, err := o.lastingSession(ctx, s, nil)
	if err != nil {
		return err
	}
	if err := sc.expect.CheckName(p.Name); err != nil {
		return unsafeToRefusal(err)
	}
	result, views, err := sc.changes(ctx, s, p)
	if err != nil {
		return err
	}
	if !o.force {
		if err := gossip.CheckWithdrawal(p.Name, result.Changes, views); err != nil {
			return unsafeToRefusal(err)
		}
	}
	if !o.yes {
		return sc.preview(s, o, result, views)
	}
	return sc.write(ctx, s, o, result)
}

// changes returns what a publication would write, from what the overlays hold now.
func (sc session) changes(ctx context.Context, s console.Streams, p gossip.Publication) (publishResult, []gossip.View, error) {
	r := publishResult{Changes: []gossip.Change{}, Arrivals: []gossip.Arrival{}}
	views, silent, err := gossip.Look(ctx, sc.sides, sc.timeout)
	if err != nil {
		return r, nil, err
	}
	printSilent(s, silent)
	for _, side := range sc.sides {
		changes, kept, err := p.Changes(side.Overlay, gossip.Newest(views, side.Overlay), time.Now())
		if err != nil {
			return r, nil, err
		}
		r.Changes = append(r.Changes, changes...)
		for _, k := range kept {
			r.Kept = append(r.Kept, fmt.Sprintf("%s: %s", side.Overlay, k))
		}
	}
	return r, views, nil
}

func (sc session) preview(s console.Streams, o publishOptions, r publishResult, views []gossip.View) error {
	if sc.json {
		if err := console.WriteJSON(s.Out, r); err != nil {
			return err
		}
	} else {
		printChanges(s.Out, "would write", r)
		peers := make(map[string]bool)
		for _, v := range views {
			for _, p := range v.Peers {
				peers[p.ID] = peers[p.ID] || !p.State.Gone() && p.State != gossip.Left
			}
		}
		fmt.Fprintf(s.Out, "to %d peers\nnothing was changed; add --yes\n", countTrue(peers))
	}
	printDeprecation(s, o.gossipFlags)
	return nil
}

func countTrue(m map[string]bool) (n int) {
	for _, is := range m {
		if is {
			n++
		}
	}
	return n
}

func (sc session) write(ctx context.Context, s console.Streams, o publishOptions, r publishResult) error {
	var err error
	if len(r.Changes) > 0 {
		fmt.Fprintf(s.Err, "writing, then asking peers whether it has arrived, for at most %v\n", sc.timeout)
		r.Arrivals, err = gossip.Write(ctx, sc.sides, r.Changes, sc.timeout)
		r.Written = err == nil
	}
	if err != nil && len(r.Arrivals) == 0 {
		return err
	}
	if sc.json {
		if err := console.WriteJSON(s.Out, r); err != nil {
			return err
		}
	} else {
		printChanges(s.Out, "wrote", r)
		for _, a := range r.Arrivals {
			fmt.Fprintf(s.Out, "%s: %d peers asked have it (%s), of %d known%s\n", a.Overlay, len(a.Have), strings.Join(a.Have, " "), a.Known, silent(a))
		}
	}
	printDeprecation(s, o.gossipFlags)
	return err
}

func silent(a gossip.Arrival) string {
	if len(a.Silent) == 0 {
		return ""
	}
	return fmt.Sprintf("; %d could not be asked from here (%s)", len(a.Silent), strings.Join(a.Silent, " "))
}

func printChanges(w io.Writer, verb string, r publishResult) {
	if len(r.Changes) == 0 {
		fmt.Fprintln(w, "nothing to do: no address stands under that name")
	}
	for _, c := range r.Changes {
		if c.Same {
			fmt.Fprintf(w, "%s: %s is %s already, version %d\n", c.Overlay, c.Key, c.To, c.Version)
			continue
		}
		fmt.Fprintf(w, "%s %s: %s   %s -> %s   version %d -> %d\n", verb, c.Overlay, c.Key, c.From, c.To, c.FromVersion, c.Version)
	}
	for _, k := range r.Kept {
		fmt.Fprintf(w, "stays as it is, and nodes use it too: %s\n", k)
	}
	if r.NoCheck != "" {
		fmt.Fprintf(w, "the addresses were not tried: %s\n", r.NoCheck)
	}
}
