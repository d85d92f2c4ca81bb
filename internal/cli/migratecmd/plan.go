package migratecmd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2/maybe"
	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/planflags"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/plan"
)

// planOptions are the flags of both forms of muster plan.
type planOptions struct {
	to             string
	via            string
	endpoints      string
	noBridge       bool
	createBalancer bool
	maxAway        int
	output         string
	clusterArgs    string // the arguments that name the same cluster in another command

	explain string
	whyNot  string
	diff    string
}

// NewPlan returns muster plan.
func NewPlan(s console.Streams) *cobra.Command {
	var (
		o       planOptions
		file    string
		release string
	)
	cmd := &cobra.Command{
		Use:   "plan -f MANIFEST | plan cluster NAME",
		Short: "Find an order of steps in which no node ever loses its way, and prove it",
		Long: `plan searches for the cheapest steps from what a cluster is to the topology that it
should have, such that every node keeps a working way to the API in every state
that steps, reboots, autoscaling and dying control-plane nodes can lead to. It
prints the steps with the reason for each, what was proven, and the way back; or,
if there is none, the shortest story of how the direct way loses a node. It
changes nothing.

With -f it reads a manifest alone and takes the cluster for what its spec says;
"muster plan cluster NAME" looks at the cluster itself.

  muster plan -f cluster.yaml --to none
  muster plan -f cluster.yaml --why-not 'roll control plane first'
  muster plan -f cluster.yaml -o plan.html
` + ideaHelp() + "\n" + console.ExitCodes,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return console.Usagef("no cluster; give a manifest with -f, or muster plan cluster NAME")
			}
			r, err := cluster.ParseRelease(release)
			if err != nil {
				return console.Usagef("--kops-version: %w", err)
			}
			ask, err := o.ask()
			if err != nil {
				return err
			}
			m, err := s.ReadManifest(cmd.Context(), file)
			if err != nil {
				return err
			}
			o.clusterArgs = "-f " + file
			problem := plan.FromSpec(m.Spec, r, ask)
			return o.answer(cmd.Context(), s, problem, plan.SpecFacts(m.Spec.Name, m.Data, r.String()))
		},
	}
	cmd.AddCommand(newPlanCluster(s))
	o.addTo(cmd)
	cmd.Flags().StringVarP(&file, "filename", "f", "", "kOps `manifest` with a Cluster and its InstanceGroups, or - for standard input")
	cmd.Flags().StringVar(&release, "kops-version", "1.35", "`release` of kOps that configured the cluster of the manifest")
	return cmd
}

func (o *planOptions) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "none", "topology to reach: hybrid, none or gossip")
	f.StringVar(&o.via, "via", "kops", "what carries the plan out: kops, terraform or lab")
	f.BoolVar(&o.noBridge, "no-bridge", false, "no step that exists only while the plan runs; workers may have to be replaced twice")
	f.BoolVar(&o.createBalancer, "create-balancer", false, "a load balancer may be made where the spec asks for none")
	f.IntVar(&o.maxAway, "max-away", 1, "workers of a group that may be away at once")
	f.StringVarP(&o.output, "output", "o", "text", "`format` on standard output (text, json, yaml, html, mermaid, dot), or a file to write: NAME.yaml, .json, .html, .mmd, .dot")
	f.StringVar(&o.explain, "explain", "", "show one `step` in full, by number or name")
	f.StringVar(&o.whyNot, "why-not", "", "check an `order` of your own, and show where it loses a node")
	f.StringVar(&o.diff, "diff", "", "show how the plan differs from the one in `file`")
	console.Choices(cmd, "to", string(cluster.Hybrid), string(cluster.None), string(cluster.Gossip))
	console.Choices(cmd, "via", string(plan.Kops), string(plan.Terraform), string(plan.Lab))
	planflags.AddEndpoints(cmd, &o.endpoints)
}

func ideaHelp() string {
	var b strings.Builder
	b.WriteString("\n--why-not takes one of these, or changes the plan: 'without STEP', 'STEP first', 'STEP last', 'STEP before STEP'\n")
	for _, i := range plan.ProposalNames() {
		fmt.Fprintf(&b, "  %-26s %s\n", "'"+i[0]+"'", i[1])
	}
	return b.String()
}

// ask checks the flags.
func (o *planOptions) ask() (plan.Options, error) {
	a := plan.Options{To: cluster.Topology(o.to), NoBridge: o.noBridge, CreateBalancer: o.createBalancer, MaxAway: o.maxAway}
	if !slices.Contains([]cluster.Topology{cluster.Hybrid, cluster.None, cluster.Gossip}, a.To) {
		return a, console.Usagef("--to %q; want hybrid, none or gossip", o.to)
	}
	var err error
	if a.Via, err = planflags.Executor(o.via); err != nil {
		return a, err
	}
	if a.Endpoints, err = planflags.Endpoints(o.endpoints); err != nil {
		return a, err
	}
	switch {
	case o.maxAway < 1:
		return a, console.Usagef("--max-away %d; want 1 or more", o.maxAway)
	case countNonEmpty(o.explain, o.whyNot, o.diff) > 1:
		return a, console.Usagef("--explain, --why-not and --diff are three questions; ask one")
	}
	_, _, err = o.format()
	return a, err
}

func countNonEmpty(texts ...string) (n int) {
	for _, t := range texts {
		if t != "" {
			n++
		}
	}
	return n
}

// planFormats are formats by file extension.
var planFormats = map[string]string{".yaml": "yaml", ".yml": "yaml", ".json": "json", ".html": "html", ".mmd": "mermaid", ".dot": "dot"}

// format reads -o: a format, or a file whose extension is that of one.
func (o *planOptions) format() (format, file string, err error) {
	if slices.Contains([]string{"text", "json", "yaml", "html", "mermaid", "dot"}, o.output) {
		return o.output, "", nil
	}
	if f, ok := planFormats[filepath.Ext(o.output)]; ok {
		return f, o.output, nil
	}
	return "", "", console.Usagef("-o %q; want text, json, yaml, html, mermaid, dot, or a file that ends in .yaml, .json, .html, .mmd or .dot", o.output)
}

// answer finds the plan, and prints it or what was asked about it.
func (o *planOptions) answer(ctx context.Context, s console.Streams, p plan.Problem, facts []plan.Fact) error {
	found, err := plan.Find(ctx, p)
	if err != nil {
		return err
	}
	found.Program = daemon.Version()
	file := plan.Seal(found, facts)
	switch {
	case o.whyNot != "":
		return o.answerWhyNot(ctx, s, file)
	case o.diff != "":
		return o.answerDiff(ctx, s, file)
	case o.explain != "" && found.Refused == nil:
		step, err := found.Find(o.explain)
		if err != nil {
			return console.Usagef("--explain: %w", err)
		}
		_, err = fmt.Fprint(s.Out, file.Explain(step))
		return err
	}
	if err := o.write(s, file, nil); err != nil {
		return err
	}
	if found.Refused != nil {
		return console.Refusef("no plan for %s: %s", p.Cluster, found.Refused.Why)
	}
	return nil
}

// write renders the plan to standard output; or to a file, and as text to standard
// output. A refusal makes no plan file.
func (o *planOptions) write(s console.Streams, f plan.File, story []string) error {
	format, path, err := o.format()
	if err != nil {
		return err
	}
	data, err := renderPlan(f, format, story)
	if err != nil {
		return err
	}
	if path == "" {
		_, err = s.Out.Write(data)
		return err
	}
	if _, err := fmt.Fprint(s.Out, console.FoldText(f.Text())); err != nil {
		return err
	}
	if f.Refused != nil && (format == "yaml" || format == "json") {
		return nil
	}
	if err := maybe.WriteFile(path, data, 0o644); err != nil {
		return console.Usagef("write the plan to %s: %w", path, err)
	}
	fmt.Fprintf(s.Err, "muster: wrote %s\n", path)
	if (format == "yaml" || format == "json") && f.Problem.To != cluster.Gossip && len(f.Steps) > 0 {
		next := "muster rehearse " + o.clusterArgs + " --plan " + path
		if f.Problem.Via == plan.Lab {
			next = "muster reconcile lab --plan " + path + ", with the same --dir as muster lab up"
		}
		fmt.Fprintf(s.Err, "muster: next: %s\n", next)
	}
	return nil
}

func renderPlan(f plan.File, format string, story []string) ([]byte, error) {
	switch format {
	case "json":
		return f.JSON()
	case "yaml":
		return f.YAML()
	case "html":
		return []byte(f.HTML(story)), nil
	case "mermaid":
		return []byte(f.Mermaid(story)), nil
	case "dot":
		return []byte(f.Dot(story)), nil
	default:
		return []byte(console.FoldText(f.Text())), nil
	}
}

// answerWhyNot answers --why-not: as text, or as a drawing with the counterexample in it.
func (o *planOptions) answerWhyNot(ctx context.Context, s console.Streams, f plan.File) error {
	idea, err := plan.WhyNot(ctx, f.Plan, o.whyNot)
	if err != nil {
		return console.Usagef("--why-not: %w", err)
	}
	format, _, err := o.format()
	switch {
	case err != nil:
		return err
	case format == "json":
		err = console.WriteJSON(s.Out, idea)
	case format == "text" || format == "yaml" || idea.Safe():
		_, err = fmt.Fprint(s.Out, idea.Text())
	default:
		err = o.write(s, f, idea.Violations[0].Story)
	}
	if err != nil {
		return err
	}
	if !idea.Safe() {
		return console.Findings{Err: fmt.Errorf("%q violates %s", o.whyNot, idea.Violations[0].Invariant)}
	}
	return nil
}

// answerDiff answers --diff.
func (o *planOptions) answerDiff(ctx context.Context, s console.Streams, f plan.File) error {
	data, err := s.ReadFile(ctx, o.diff)
	if err != nil {
		return console.Usagef("--diff: %w", err)
	}
	other, err := plan.Read(ctx, o.diff, data, "")
	if err != nil {
		return err
	}
	lines := append(plan.Diff(other.Plan, f.Plan), plan.Changed(other.Observed, f.Observed)...)
	if len(lines) == 0 {
		_, err := fmt.Fprintf(s.Out, "the same plan as in %s\n", o.diff)
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(s.Out, l); err != nil {
			return err
		}
	}
	return console.Findings{Err: errors.New("the plan differs from that in " + o.diff)}
}
