package gossipcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/gossip"
)

type inspectOptions struct {
	gossipFlags
	fail   bool
	ignore []string
}

func newGossipInspect(s console.Streams) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect HOST[:PORT]... --cluster NAME",
		Short: "What is in a cluster's gossip, what of it can be believed, what is odd",
		Long: `Inspect visits each peer once and shows what it tells: the verdict first, then records
with what Muster would believe of them, peers and who is connected with whom, and
findings. Several addresses are compared with each other, and --overlay both compares
the two overlays.

It changes nothing. It exits 0 whatever it finds, because an overlay without a password
is kOps's default; --fail-on-findings turns findings of severity high or medium into
exit 3. If an address cannot be read, the others are shown and it exits 1.

` + console.ExitCodes,
		Example: `  muster gossip inspect 172.20.0.4 --cluster atlas.k8s.local
  muster gossip inspect 172.20.0.4 172.20.0.5 -f cluster.yaml
  muster gossip inspect 172.20.0.4:3999 --overlay weave --cluster atlas.k8s.local --secret-file secret -o json
  muster gossip inspect 172.20.0.4 -f cluster.yaml --fail-on-findings --ignore no-password,not-encrypted`,
		RunE: func(cmd *cobra.Command, args []string) error { return runInspect(cmd.Context(), s, o, args) },
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.fail, "fail-on-findings", false, "exit 3 if there is a finding of severity high or medium")
	cmd.Flags().StringSliceVar(&o.ignore, "ignore", nil, "`code` of findings that --fail-on-findings leaves out; may be repeated")
	return cmd
}

func runInspect(ctx context.Context, s console.Streams, o inspectOptions, args []string) error {
	sc, err := o.session(ctx, s, args)
	if err != nil {
		return err
	}
	targets := sc.unknown
	for _, side := range sc.sides {
		for _, a := range side.At {
			targets = append(targets, gossip.Target{Overlay: side.Overlay, Addr: a, Reader: side.Reader})
		}
	}
	views, failed := gossip.ReadAll(ctx, targets, sc.timeout)
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(views) == 0 {
		var lines []string
		for _, f := range failed {
			lines = append(lines, f.Err.Error())
		}
		return errors.New(strings.Join(lines, "; "))
	}
	r := gossip.Inspect(sc.expect, views, failed, time.Now())
	if sc.json {
		err = console.WriteJSON(s.Out, r)
	} else {
		err = printInspection(s, r)
	}
	if err != nil {
		return err
	}
	printDeprecation(s, o.gossipFlags)
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d addresses told nothing: %w", len(failed), len(targets), failed[0].Err)
	}
	return o.failOnFindings(r)
}

// failOnFindings returns the error that --fail-on-findings asks for.
func (o inspectOptions) failOnFindings(r gossip.Report) error {
	if !o.fail {
		return nil
	}
	var codes []string
	for _, f := range r.Findings {
		if f.Severity != gossip.Info && !slices.Contains(o.ignore, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	if len(codes) == 0 {
		return nil
	}
	slices.Sort(codes)
	codes = slices.Compact(codes)
	return console.Findings{Err: fmt.Errorf("findings: %s", strings.Join(codes, ", "))}
}

func printInspection(s console.Streams, r gossip.Report) error {
	overlays := make([]string, len(r.Overlays))
	for i, o := range r.Overlays {
		overlays[i] = string(o)
	}
	fmt.Fprintf(s.Out, "%s\n%s   %s   %d records, %d peers   %s\n", r.Verdict, r.Cluster, strings.Join(overlays, " and "), len(r.Records), len(r.Peers), countFindings(r))
	if r.NetworksAssumed {
		fmt.Fprintln(s.Out, "networks: none given, so private ones (RFC 1918, fc00::/7) are taken for the cluster's; --network says better")
	}
	now := time.Now()
	tab := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "\nRECORDS\ttype\tvalue\twritten\tversion\taccepted\t")
	for _, rec := range r.Records {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", recordName(rec, r), rec.Type, recordValue(rec), age(rec.Written, now), rec.Version, yesNo(rec.Accepted), rec.Why)
	}
	fmt.Fprintln(tab, "\nPEERS\taddress\tstate\tconnected to\t")
	for _, p := range r.Peers {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", p.Label(), p.Address, p.State, strings.Join(p.ConnectedTo, " "))
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if len(r.Findings) == 0 {
		return nil
	}
	tab = tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "\nFINDINGS")
	for _, f := range r.Findings {
		where := string(f.Overlay)
		if where != "" {
			where += ": "
		}
		fmt.Fprintf(tab, "%s\t%s\t%s%s\n", f.Severity, f.Code, where, f.Text)
	}
	return tab.Flush()
}

func recordName(rec gossip.Record, r gossip.Report) string {
	name := rec.Name
	if name == "" {
		name = fmt.Sprintf("%q", rec.Key)
	}
	if len(r.Overlays) > 1 {
		name += " (" + string(rec.Overlay) + ")"
	}
	return name
}

func recordValue(rec gossip.Record) string {
	switch {
	case rec.Tombstone:
		return "withdrawn"
	case len(rec.Addresses) > 0:
		return strings.Join(rec.Addresses, ",")
	case rec.Value != "":
		return fmt.Sprintf("%q", rec.Value)
	}
	return "empty"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// age returns how long ago something was written, in the largest unit that fits.
func age(at *time.Time, now time.Time) string {
	if at == nil {
		return "?"
	}
	d := now.Sub(*at)
	suffix := "ago"
	if d < 0 {
		d, suffix = -d, "ahead"
	}
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s %s", int(d.Seconds()), suffix)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %s", int(d.Minutes()), suffix)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %s", int(d.Hours()), suffix)
	}
	return fmt.Sprintf("%d days %s", int(d.Hours()/24), suffix)
}

func countFindings(r gossip.Report) string {
	count := make(map[gossip.Severity]int)
	for _, f := range r.Findings {
		count[f.Severity]++
	}
	if len(r.Findings) == 0 {
		return "nothing odd"
	}
	return fmt.Sprintf("%d high, %d medium, %d info", count[gossip.High], count[gossip.Medium], count[gossip.Info])
}
