package auditcmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	pages "github.com/muster-dev/muster/docs/findings"
	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/audit/node"
	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/daemon"
)

type auditNodeOptions struct {
	node   bool
	root   string
	binary string
	output string
}

// NewAudit returns muster audit.
func NewAudit(s console.Streams) *cobra.Command {
	var o auditNodeOptions
	cmd := &cobra.Command{
		Use:   "audit cluster | --node | --root DIR | --binary FILE",
		Short: "Would a node join, and what is there that should not be?",
		Long: `"muster audit cluster" looks at a cluster; see its own --help.

With --node, --root or --binary, audit reads the build information of Go programs: of
all on this machine, of all on an image mounted at DIR, or of one file. It reports
programs that contain unmaintained modules, such as protokube with weaveworks/mesh.
With -o cyclonedx it writes a bill of materials of all of them.

` + console.ExitCodes,
		Example: "  muster audit --node\n  muster audit --root /mnt/image -o cyclonedx > sbom.json\n  muster audit --binary /opt/kops/bin/protokube",
		Args:    console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen := 0
			for _, is := range []bool{o.node, o.root != "", o.binary != ""} {
				if is {
					chosen++
				}
			}
			switch {
			case chosen == 0 && cmd.Flags().NFlag() == 0:
				return cmd.Help()
			case chosen != 1:
				return console.CommandLinef(cmd, "want one of --node, --root DIR and --binary FILE")
			}
			return auditNode(cmd.Context(), s, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.node, "node", false, "look at this machine")
	f.StringVar(&o.root, "root", "", "look at the image mounted at this `directory`")
	f.StringVar(&o.binary, "binary", "", "look at this `file`")
	f.StringVarP(&o.output, "output", "o", "", "table, json or cyclonedx")
	cmd.AddCommand(newAuditCluster(s))
	return cmd
}

func auditNode(ctx context.Context, s console.Streams, o auditNodeOptions) error {
	if err := console.CheckOutput(o.output, "table", "json", "cyclonedx"); err != nil {
		return err
	}
	r, err := readPrograms(ctx, s, o)
	if err != nil {
		return err
	}
	switch o.output {
	case "cyclonedx":
		data, err := node.SBOM(r, daemon.Version())
		if err != nil {
			return err
		}
		_, err = s.Out.Write(data)
		return err
	case "json":
		if err := console.WriteJSONUnescaped(s.Out, r); err != nil {
			return err
		}
	default:
		if err := programTable(s, r); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(r.Programs, func(p node.Program) bool { return len(p.Dead) > 0 }) {
		return console.ErrFound
	}
	return nil
}

func readPrograms(ctx context.Context, s console.Streams, o auditNodeOptions) (node.Report, error) {
	if o.binary != "" {
		p, err := node.ReadFile(o.binary)
		switch {
		case errors.Is(err, node.ErrNotGo), errors.Is(err, fs.ErrNotExist):
			return node.Report{}, console.UsageError{Err: err}
		case err != nil:
			return node.Report{}, err
		}
		return node.Report{Looked: 1, Programs: []node.Program{p}, Unread: []string{}}, nil
	}
	root := o.root
	if o.node {
		root = "/"
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return node.Report{}, console.Usagef("--root %q is no directory that can be read", root)
	}
	looked, last, every := 0, time.Now(), 10*time.Second
	if console.IsTerminal(s.Err) {
		every = 2 * time.Second
	}
	return node.Scan(ctx, root, func(path string) {
		if looked++; time.Since(last) > every {
			last = time.Now()
			fmt.Fprintf(s.Err, "muster: %d files, now %s\n", looked, path)
		}
	})
}

func programTable(s console.Streams, r node.Report) error {
	dead := 0
	var rows bytes.Buffer
	tab := tabwriter.NewWriter(&rows, 0, 8, 2, ' ', 0)
	for _, p := range r.Programs {
		for _, d := range p.Dead {
			dead++
			running := ""
			if p.Running {
				running = ", running"
			}
			fmt.Fprintf(tab, "MU402  high\t%s%s\t%s %s\tlast release %s: %s\n", p.Path, running, d.Path, d.Version, d.LastRelease, d.Why)
		}
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.Out, "%s in %s; %s looked at, %d could not be read\n%s", console.Count(dead, "unmaintained module", "unmaintained modules"),
		console.Count(len(r.Programs), "Go program", "Go programs"), console.Count(r.Looked, "file", "files"), len(r.Unread), &rows)
	return err
}

// NewExplain returns muster explain.
func NewExplain(s console.Streams) *cobra.Command {
	var ids []string
	for _, r := range audit.Rules() {
		ids = append(ids, r.ID)
	}
	return &cobra.Command{
		Use:   "explain [ID]",
		Short: "Say what a finding means and what to do, or list all findings",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return console.CommandLinef(cmd, "%s takes one finding, not %d", cmd.CommandPath(), len(args))
			}
			return nil
		},
		ValidArgs: ids,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				tab := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
				fmt.Fprintln(tab, "ID\tSEVERITY\tCAN BLOCK\tGONE AFTER\tTITLE")
				for _, r := range audit.Rules() {
					fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Severity, r.CanBlock(), r.GoneAfter, r.Title)
				}
				return tab.Flush()
			}
			page, ok := pages.Page(strings.ToUpper(args[0]))
			if !ok {
				return console.Usagef("no finding %q; muster explain lists them", args[0])
			}
			_, err := fmt.Fprint(s.Out, page)
			return err
		},
	}
}
