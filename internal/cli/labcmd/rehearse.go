package labcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/planflags"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
)

type rehearseOptions struct {
	files     []string
	to        string
	plan      string
	endpoints string
	overlay   string
	fault     string
	netns     bool
	output    string
	dir       string
	verbose   bool

	api        apiServerOptions
	kubernetes lab.Kubernetes // the programs that api found
}

// NewRehearse returns muster rehearse.
func NewRehearse(s console.Streams) *cobra.Command {
	var o rehearseOptions
	cmd := &cobra.Command{
		Use:   "rehearse -f MANIFEST [MANIFEST...] [--to hybrid|none] | rehearse cluster NAME",
		Short: "Move a cluster's spec off gossip, on real processes on this machine",
		Long: `Rehearse reads a kOps manifest, starts the whole cluster on this machine as real
processes, finds a plan and carries it out there, step by step, while every worker
calls the API all the time. It touches no cluster and needs no credentials.

With --plan it rehearses the steps of a plan that muster plan wrote. Steps that
concern the cloud alone change nothing in the lab: every node is looked at instead.
"muster rehearse cluster NAME" reads the spec from the state store, looks at the
cluster itself, and rehearses the plan for what it sees.

It ends with a verdict and evidence, and exits 0 only if every rule held.
` + faultHelp("--fault KIND disturbs the cluster while the first worker is on its way:") + "\n" + console.ExitCodes,
		Example: `  muster rehearse -f cluster.yaml --to none
  muster rehearse -f cluster.yaml --plan plan.yaml
  muster rehearse -f cluster.yaml --overlay both
  muster rehearse -f cluster.yaml --fault control-plane-killed
  muster rehearse -f cluster.yaml -o json > evidence.json
  muster rehearse cluster atlas.k8s.local --state s3://kops-state`,
		RunE: func(cmd *cobra.Command, args []string) error {
			// A shell turns -f *.yaml into one flag and the rest as arguments.
			for _, name := range args {
				if _, err := os.Stat(name); err != nil && !console.LooksLikeFile(name) {
					return console.CommandLinef(cmd, "no file %q", name)
				}
			}
			o.files = append(o.files, args...)
			return rehearseManifests(cmd.Context(), s, o)
		},
	}
	cmd.AddCommand(newRehearseCluster(s))
	o.addTo(cmd)
	cmd.Flags().StringSliceVarP(&o.files, "filename", "f", nil, "kOps `manifest` with Cluster and InstanceGroups, or - for standard input; further files may follow as arguments")
	return cmd
}

// addTo gives a command the flags of both forms of muster rehearse.
func (o *rehearseOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "none", "topology to reach: hybrid or none")
	f.StringVar(&o.plan, "plan", "", "rehearse the plan in `file`, and reach what it reaches")
	f.StringVar(&o.overlay, "overlay", "", overlayUsage)
	f.StringVar(&o.fault, "fault", "", "`kind` of fault to inject half-way")
	f.BoolVar(&o.netns, "netns", false, "give each node a network namespace and its own /etc/hosts (Linux, root)")
	o.api.addTo(f)
	console.Choices(cmd, "to", string(cluster.Hybrid), string(cluster.None))
	planflags.AddEndpoints(cmd, &o.endpoints)
	console.Choices(cmd, "overlay", overlays...)
	console.Choices(cmd, "fault", faultNames()...)
	f.StringVarP(&o.output, "output", "o", "", "json: end with one JSON object on standard output")
	f.StringVar(&o.dir, "dir", "", "keep logs, configurations and samples in this `directory` (default: a temporary one, removed)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "every gate gets a line")
}

const overlayUsage = "what nodes gossip over: native, weave, kops-memberlist or both (default: native, or what the spec's gossipConfig says)"

// overlays are what --overlay takes.
var overlays = []string{string(lab.Native), string(lab.Weave), string(lab.KopsMemberlist), string(lab.Both)}

func faultNames() (names []string) {
	for _, k := range rehearse.FaultKinds() {
		names = append(names, k[0])
	}
	return names
}

// faultHelp lists the kinds of faults below a heading.
func faultHelp(heading string) string {
	var b strings.Builder
	b.WriteString("\n" + heading + "\n")
	for _, k := range rehearse.FaultKinds() {
		fmt.Fprintf(&b, "  %-22s %s\n", k[0], k[1])
	}
	return b.String()
}

func (o rehearseOptions) validate() (cluster.Topology, error) {
	if o.to != string(cluster.Hybrid) && o.to != string(cluster.None) {
		return "", console.Usagef("--to %q; want hybrid or none", o.to)
	}
	if _, err := planflags.Endpoints(o.endpoints); err != nil {
		return "", err
	}
	if o.output != "" && o.output != "json" {
		return "", console.Usagef("-o %q; want json", o.output)
	}
	if o.overlay != "" {
		if _, err := lab.ParseOverlay(o.overlay); err != nil {
			return "", console.Usagef("--%w", err)
		}
	}
	return cluster.Topology(o.to), rehearse.CheckFault(o.fault)
}

// list reports whether workers boot with the control plane's own addresses.
func (o *rehearseOptions) list() bool { return o.endpoints == string(plan.Addresses) }

// subject is one cluster to rehearse.
type subject struct {
	from    string // where its spec was read
	spec    *cluster.Cluster
	plan    *plan.Plan          // nil to find one for the spec
	refused error               // why there is none
	boots   map[string]lab.Boot // how its workers boot as kOps's; nil for Muster's own
}

func rehearseManifests(ctx context.Context, s console.Streams, o rehearseOptions) error {
	if len(o.files) == 0 {
		return console.Usagef("no manifest; give one with -f (try examples/atlas.k8s.local.yaml), or muster rehearse cluster NAME")
	}
	to, err := o.validate()
	if err != nil {
		return console.UsageError{Err: err}
	}
	manifests, err := s.ReadManifests(ctx, o.files...)
	if err != nil {
		return err
	}
	var subjects []subject
	for _, m := range manifests {
		subjects = append(subjects, subject{from: m.Name, spec: m.Spec})
	}
	if o.plan != "" {
		if len(manifests) != 1 {
			return console.Usagef("--plan %s is for one cluster, and there are %d manifests", o.plan, len(manifests))
		}
		file, err := o.readPlan(ctx, s, manifests[0].Spec.Name)
		if err != nil {
			return err
		}
		if err := o.sameManifest(file, manifests[0].Data); err != nil {
			return err
		}
		subjects[0].plan, to = &file.Plan, file.Problem.To
	}
	return runRehearse(ctx, s, o, to, subjects)
}

// runRehearse rehearses one cluster after the other.
func runRehearse(ctx context.Context, s console.Streams, o rehearseOptions, to cluster.Topology, subjects []subject) error {
	var err error
	if o.kubernetes, err = o.api.find(); err != nil {
		return err
	}
	o.netns = o.netns || o.kubernetes.Real()
	if o.netns {
		if err := netns.Check(); err != nil {
			return console.Usagef("--netns: %w", err)
		}
	}
	programs, err := lab.FindPrograms()
	if err != nil {
		return err
	}
	base, keep, err := workDir(o.dir)
	if err != nil {
		return err
	}
	if keep {
		defer os.Remove(base) // fails, as it should, unless it is empty
	} else {
		defer os.RemoveAll(base)
	}
	evidence := s.Out
	if o.output == "json" {
		evidence = s.Err
	}
	var all []report.Rehearsal
	refused := 0
	for i, subject := range subjects {
		printer := newPrinter(evidence, s.Err, o.verbose)
		r, err := rehearseOne(ctx, o, to, subject, programs, filepath.Join(base, fmt.Sprint(i+1)), printer)
		printer.finish()
		if errors.As(err, new(console.Refusal)) {
			refused++
			r.Refused = err.Error()
			err = nil
		}
		if err != nil {
			return err
		}
		if !keep {
			r.Dir = ""
		}
		printer.verdict(r)
		all = append(all, r)
	}
	result := report.Combine(all)
	if o.output == "json" {
		if err := console.WriteJSON(s.Out, result); err != nil {
			return err
		}
	}
	switch {
	case anyFailed(all):
		return errors.New("the rehearsal failed: " + brokenRules(all))
	case refused > 0:
		return console.Refusef("%d of %d refused", refused, len(all))
	}
	return nil
}

// readPlan reads the plan to rehearse, which must be one of the named cluster.
func (o *rehearseOptions) readPlan(ctx context.Context, s console.Streams, name string) (plan.File, error) {
	data, err := s.ReadFile(ctx, o.plan)
	if err != nil {
		return plan.File{}, console.Usagef("--plan: %w", err)
	}
	file, err := plan.Read(ctx, o.plan, data, name)
	if err != nil {
		return file, err
	}
	if file.Refused != nil || file.Problem.To == cluster.Gossip {
		return file, console.Usagef("--plan %s: it leads to %s by %d steps; want a plan to hybrid or none", o.plan, file.Problem.To, len(file.Steps))
	}
	if file.Problem.Endpoints == plan.Addresses {
		o.endpoints = string(plan.Addresses)
	}
	return file, nil
}

// sameManifest refuses a plan that was made from another manifest. A plan of a cluster
// was made from the spec in a state store, which a file need not repeat byte by byte.
func (o *rehearseOptions) sameManifest(f plan.File, manifest []byte) error {
	isSpec := func(f plan.Fact) bool { return f.What == plan.SpecFact }
	now := plan.SpecFacts(f.Problem.Cluster, manifest, "")
	if len(f.Observed) != len(now) {
		return nil
	}
	i, j := slices.IndexFunc(f.Observed, isSpec), slices.IndexFunc(now, isSpec)
	if i < 0 || f.Observed[i].Digest == now[j].Digest {
		return nil
	}
	return outdated(o.plan, f.Problem.Cluster, plan.Changed(f.Observed[i:i+1], now[j:j+1]))
}

// outdated is the error about a plan that was made before something changed.
func outdated(file, name string, changed []string) error {
	return &plan.FileError{
		Where: file,
		What:  "the cluster is no longer what the plan was made from: " + strings.Join(changed, "; "),
		Next:  "make a new one of " + name + " with muster plan",
	}
}

// rehearseOne rehearses one cluster, or refuses it.
func rehearseOne(ctx context.Context, o rehearseOptions, to cluster.Topology, s subject, programs lab.Programs, dir string, p *printer) (report.Rehearsal, error) {
	file, c := s.from, s.spec
	overlay := cmp.Or(lab.Overlay(o.overlay), lab.OverlayOf(c))
	cfg := rehearse.Config{
		File:     file,
		Cluster:  c,
		To:       to,
		Plan:     s.plan,
		Boots:    s.boots,
		Overlay:  overlay,
		Fault:    o.fault,
		Dir:      filepath.Join(dir, "lab"),
		Programs: programs,
		Netns:    o.netns,
		Progress: p,

		Kubernetes: o.kubernetes,
	}
	p.intro(cfg)
	switch {
	case o.list():
		// The lab builds only what its workers use.
		c.API.LoadBalancer = nil
	case s.plan != nil && c.API.LoadBalancer == nil:
		// The plan creates one.
		c.API.LoadBalancer = &cluster.LoadBalancer{Class: cluster.LoadBalancerNetwork}
	}
	none := report.New(file, c.Name, string(to))
	if s.refused != nil {
		return none, console.Refusal{Err: s.refused}
	}
	// A plan has already decided about load balancers, whatever the spec says.
	if reasons := rehearse.Refusals(c, to, o.list() || s.plan != nil); len(reasons) > 0 {
		return none, console.Refusal{Err: errors.New(strings.Join(reasons, "; "))}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return none, err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	log, err := os.OpenFile(filepath.Join(dir, "lab.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return none, err
	}
	defer log.Close()
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}))
	return rehearse.Run(ctx, cfg)
}

// workDir returns the directory of the lab, and whether it stays.
func workDir(dir string) (base string, keep bool, err error) {
	if dir == "" {
		base, err = os.MkdirTemp("", "muster-")
		return base, false, err
	}
	if base, err = filepath.Abs(dir); err != nil {
		return "", true, err
	}
	if err := checkPath(base); err != nil {
		return "", true, err
	}
	if entries, err := os.ReadDir(base); err == nil && len(entries) > 0 {
		return "", true, console.Usagef("--dir %s is not empty; name a directory that is, or is not there yet", base)
	}
	return base, true, os.MkdirAll(base, 0o755)
}

func anyFailed(all []report.Rehearsal) bool {
	for _, r := range all {
		if r.Refused == "" && r.Verdict != report.Pass {
			return true
		}
	}
	return false
}

// brokenRules names the rules that did not hold.
func brokenRules(all []report.Rehearsal) string {
	var names []string
	for _, r := range all {
		for _, rule := range r.Rules {
			if !rule.Held {
				name, _, _ := strings.Cut(rule.Name, ":")
				names = append(names, r.Cluster+" "+name)
			}
		}
	}
	return strings.Join(names, ", ")
}
