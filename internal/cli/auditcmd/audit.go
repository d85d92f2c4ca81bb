package auditcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/audit/probe"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/kubeapi"
)

type auditOptions struct {
	statestore.Flags
	file     string
	version  string
	output   string
	failOn   string
	accept   string
	readyFor string
	strict   bool
	noProbes bool
	kube     kubeapi.Config
}

func newAuditCluster(s console.Streams) *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "cluster [NAME] --state URL | -f SPEC",
		Short: "Would a new node of each group join, and what is there that should not be?",
		Long: `Cluster follows, for each instance group, the chain from a machine's first boot to
a node: template, boot configuration, endpoints, network rules, healthy targets of both
services, certificate, permissions, node configuration. It does the same for a reboot
of each older generation that is alive. Then it lists findings, worst first, with what
each blocks (new nodes, the move to hybrid or to none, kOps 1.37, or nothing) and the
topology after which it is gone; one that stays is yours to mend. muster explain ID says
more of each.

With --state it looks at the cluster as its cloud and state store have it, and only
reads. It also resolves, from here, the names that nodes boot by, and makes TLS
handshakes with boot servers and load balancers (ports 443 and 3988) to read the names
in their certificates, without trusting them. What does not answer within 2 s counts as
not seen; --no-probes skips all of this. With --kubeconfig or --context it also looks for
pods that have a copy of a node's hosts file and ask for the cluster's names, and for
pods that call protokube. With -f it judges a manifest alone.

What could not be looked at is listed, and never taken as fine. You can accept findings
in a file, each with a reason and a last day:

  accept:
  - id: MU310
    subject: atlas.k8s.local
    reason: the ports are closed to all but nodes
    until: 2027-03-31

exit codes: 0 nothing at or above --fail-on, 3 findings (with --ready-for: not ready),
1 the cloud or the store could not be looked at, 2 usage or bad input`,
		Example: "  muster audit cluster atlas.k8s.local --state s3://kops-state\n  muster audit cluster -f cluster.yaml -o sarif\n  muster audit cluster atlas.k8s.local --state s3://kops-state --ready-for 1.37",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.file != "" && len(args) > 0 {
				return console.Usagef("a name and -f do not go together: the manifest names its cluster")
			}
			if o.file != "" && o.kube != (kubeapi.Config{}) {
				return console.Usagef("--kubeconfig and --context do not go with -f, which judges a manifest alone")
			}
			if o.file == "" {
				if err := o.ParseName(cmd, args); err != nil {
					return err
				}
			}
			return auditCluster(cmd.Context(), s, o)
		},
	}
	o.AddTo(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.file, "filename", "f", "", "manifest `file` with the cluster and its instance groups, or - for standard input, instead of --state")
	f.StringVar(&o.version, "kops-version", "", "the kOps `version` that configured the cluster, where the store does not say")
	f.StringVarP(&o.output, "output", "o", "", "table, json, sarif or markdown")
	f.StringVar(&o.failOn, "fail-on", string(audit.High), "the lowest `severity` that gives exit 3: critical, high, medium, low, info, or none")
	f.StringVar(&o.accept, "accept", "", "`file` of accepted findings")
	f.StringVar(&o.readyFor, "ready-for", "", "answer only whether kOps `1.36 or 1.37` can be used on the cluster now")
	f.BoolVar(&o.noProbes, "no-probes", false, "resolve no name and connect to no server of the cluster from here")
	f.StringVar(&o.kube.Kubeconfig, "kubeconfig", "", "look at the cluster's pods as well, by the kubeconfig in this `file`")
	f.StringVar(&o.kube.Context, "context", "", "or by this context's `name` in it, or in $KUBECONFIG or ~/.kube/config")
	f.BoolVar(&o.strict, "strict", false, "take what cannot be seen from here for unknown")
	return cmd
}

// check validates the flags and reads the file of accepted findings, before anything is
// looked at.
func (o auditOptions) check(ctx context.Context, s console.Streams) (accepted []audit.Acceptance, ready cluster.Release, err error) {
	if err := console.CheckOutput(o.output, "table", "json", "sarif", "markdown"); err != nil {
		return nil, 0, err
	}
	if s := audit.Severity(o.failOn); o.failOn != "none" && !s.AtLeast(audit.Info) {
		return nil, 0, console.Usagef("--fail-on %q; want critical, high, medium, low, info or none", o.failOn)
	}
	switch o.readyFor {
	case "":
	case "1.36", "1.37":
		ready, _ = cluster.ParseRelease(o.readyFor)
		if o.output != "" && o.output != "table" && o.output != "json" {
			return nil, 0, console.Usagef("--ready-for with -o %q; want table or json", o.output)
		}
	default:
		return nil, 0, console.Usagef("--ready-for %q; want 1.36 or 1.37", o.readyFor)
	}
	if o.version != "" {
		if _, err := cluster.ParseRelease(o.version); err != nil {
			return nil, 0, console.Usagef("--kops-version: %w", err)
		}
	}
	if o.accept != "" {
		data, err := s.ReadFile(ctx, o.accept)
		if err != nil {
			return nil, 0, console.Usagef("cannot read the accepted findings: %w", err)
		}
		if accepted, err = audit.ReadAcceptances(data); err != nil {
			return nil, 0, console.Usagef("%s: %w", o.accept, err)
		}
	}
	return accepted, ready, nil
}

// probesTimeout bounds all look-ups and handshakes together.
const probesTimeout = 10 * time.Second

func auditCluster(ctx context.Context, s console.Streams, o auditOptions) error {
	accepted, ready, err := o.check(ctx, s)
	if err != nil {
		return err
	}
	in, unseen, err := gatherAudit(ctx, s, o)
	if err != nil {
		return err
	}
	if in.Cloud != nil && !o.noProbes {
		if console.IsTerminal(s.Err) {
			fmt.Fprintf(s.Err, "muster: asking %s's servers for their certificates ...\n", in.Spec.Name)
		}
		probing, cancel := context.WithTimeout(ctx, probesTimeout)
		probes := probe.Run(probing, in, probe.Config{})
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		in.Probes = &probes
	}
	in.Strict, in.Now = o.strict, time.Now()
	r := audit.Run(in, accepted)
	if ready != 0 {
		return errors.Join(reportReady(s, audit.ReadyFor(in, r, ready), o.output), unseen)
	}
	if err := printAudit(s, r, o); err != nil {
		return err
	}
	if unseen != nil {
		return unseen
	}
	if o.failOn != "none" && len(r.Open(audit.Severity(o.failOn))) > 0 {
		return console.ErrFound
	}
	return nil
}

func printAudit(s console.Streams, r audit.Report, o auditOptions) error {
	switch o.output {
	case "json":
		return console.WriteJSONUnescaped(s.Out, r)
	case "sarif":
		data, err := audit.SARIF(r, daemon.Version())
		if err != nil {
			return err
		}
		_, err = s.Out.Write(data)
		return err
	case "markdown":
		_, err := fmt.Fprint(s.Out, audit.Markdown(r))
		return err
	default:
		return auditTable(s, r, o)
	}
}

// nextCommands returns what to type next: an explanation of the worst finding that
// nobody accepted; then the way out of gossip, unless something broken goes first.
func nextCommands(r audit.Report, o auditOptions) (next []string) {
	if open := r.Open(audit.Info); len(open) > 0 {
		next = append(next, "muster explain "+open[0].ID)
	}
	blocked := slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Severity == audit.Critical })
	if !blocked && (r.Topology == cluster.Gossip || r.Topology == cluster.Hybrid) {
		of := "cluster " + o.Args()
		if o.file != "" {
			of = "-f " + o.file
		}
		next = append(next, "muster plan "+of+" --to none")
	}
	return next
}

func reportReady(s console.Streams, r audit.Readiness, output string) error {
	if output == "json" {
		if err := console.WriteJSONUnescaped(s.Out, r); err != nil {
			return err
		}
	} else {
		answer := "no"
		if r.Ready {
			answer = "yes"
		}
		fmt.Fprintf(s.Out, "ready for kOps %s: %s\n  becomes     %s\n", r.Release, answer, r.Becomes)
		for _, line := range r.InTheWay {
			fmt.Fprintln(s.Out, "  in the way  "+line)
		}
		for _, line := range r.Unknown {
			fmt.Fprintln(s.Out, "  unknown     "+line)
		}
	}
	if !r.Ready {
		return console.ErrFound
	}
	return nil
}
