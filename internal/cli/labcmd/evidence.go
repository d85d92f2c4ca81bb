package labcmd

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/report"
)

// verdict prints the evidence: the verdict first, then why, then the figures.
func (p *printer) verdict(r report.Rehearsal) {
	w := p.out
	if r.Refused != "" {
		fmt.Fprintf(w, "\nREFUSED  %s   %s\n\n", r.Cluster, r.Refused)
		return
	}
	fmt.Fprintf(w, "\n%s  %s   %s -> %s   %d probes, %d failed   %d of %d workers lost their last path   %.0f s\n",
		strings.ToUpper(string(r.Verdict)), r.Cluster, r.From, r.To, r.Probes.Sent, r.Probes.Failed, r.Lost, r.Workers, r.Took.Seconds())
	if f := r.Fault; f != nil {
		fmt.Fprintf(w, "\nFAULT    %s, during %s\n", strings.TrimSuffix(f.What+": "+f.Target, ": "), f.During)
	}
	fmt.Fprintln(w, "\nRULES")
	for _, rule := range r.Rules {
		mark := "held  "
		if !rule.Held {
			mark = "BROKEN"
		}
		fmt.Fprintf(w, "  %s  %s  (%s)\n", mark, rule.Name, rule.Detail)
	}
	p.figures(r)
	fmt.Fprintln(w, "\nPROGRAMS")
	for _, prog := range r.Programs {
		fmt.Fprintf(w, "  %-13s %5.1f MiB  %d modules, %s, %s  (%s)\n", prog.Program, float64(prog.Bytes)/(1<<20),
			len(prog.Modules), countAndName(prog.Overlays, "of an overlay"), countAndName(prog.Clouds, "of cloud SDKs"), prog.Role)
	}
	fmt.Fprintln(w, "\nSTEPS")
	for i, s := range r.Steps {
		gates := 0
		for _, a := range s.Actions {
			gates += len(a.Gates)
		}
		fmt.Fprintf(w, "  %2d  %5.1f s  %8s  %s\n", i+1, s.Took.Seconds(), console.Count(gates, "gate", "gates"), s.Title)
	}
	if r.Dir != "" {
		fmt.Fprintf(w, "\nlogs, configurations and every sample: %s\n", r.Dir)
	}
}

// figures prints what was measured on each worker and path.
func (p *printer) figures(r report.Rehearsal) {
	fmt.Fprintln(p.out, "\nWORKERS")
	var table strings.Builder
	tab := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tab, "  worker\tpath\tsent\tfailed\tlongest gap\tgossip before\tafter")
	for _, w := range r.PerNode {
		name, before, after := w.Name, gossipCount(w.GossipBefore), gossipCount(w.GossipAfter)
		for _, f := range w.Paths {
			fmt.Fprintf(tab, "  %s\t%s\t%d\t%d\t%s\t%s\t%s\n", name, f.Path, f.Sent, f.Failed, gap(f.Longest), before, after)
			name, before, after = "", "", ""
		}
	}
	tab.Flush()
	// Trailing blanks would wrap onto a line of their own on a narrow terminal.
	for line := range strings.Lines(table.String()) {
		fmt.Fprintln(p.out, strings.TrimRight(line, " \n"))
	}
}

func gap(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return milliseconds(d)
}

func gossipCount(g report.Gossip) string {
	if !g.Any() {
		return "none"
	}
	return console.Count(len(g.Processes), "process", "processes") + ", " + console.Count(len(g.Ports), "port", "ports")
}

// countAndName counts modules, and names one that is alone; -o json names all.
func countAndName(list []string, what string) string {
	switch len(list) {
	case 0:
		return "none " + what
	case 1:
		return fmt.Sprintf("1 %s (%s)", what, list[0])
	default:
		return fmt.Sprintf("%d %s", len(list), what)
	}
}
