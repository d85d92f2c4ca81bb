package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/live"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
)

// A printer shows a rehearsal while it runs: on a terminal one line that is
// redrawn under those that stay, elsewhere plain lines. It implements
// rehearse.Progress.
type printer struct {
	out      io.Writer // where evidence goes
	err      io.Writer // where progress goes
	terminal bool
	verbose  bool
	began    time.Time

	mu     sync.Mutex // guards what follows
	number int
	steps  int
	title  string
	acting string
	pulse  rehearse.Pulse
	last   rehearse.Pulse
	spark  []int
	drawn  bool
}

func newPrinter(out, err io.Writer, verbose bool) *printer {
	return &printer{out: out, err: err, terminal: isTerminal(err), verbose: verbose, began: time.Now()}
}

// isTerminal reports whether w is a terminal that can redraw a line.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// line prints a line that stays. The caller holds mu.
func (p *printer) line(format string, args ...any) {
	p.clear()
	fmt.Fprintf(p.err, format+"\n", args...)
	p.draw()
}

func (p *printer) clear() {
	if p.drawn {
		fmt.Fprint(p.err, "\r\x1b[K")
		p.drawn = false
	}
}

// draw redraws the live line.
func (p *printer) draw() {
	if !p.terminal || p.number == 0 {
		return
	}
	paths := fmt.Sprintf("name %d/%d", p.pulse.Working[probe.ByName], p.pulse.Workers)
	if n, ok := p.pulse.Working[probe.LoadBalancer]; ok {
		paths += fmt.Sprintf("  lb %d/%d", n, p.pulse.Workers)
	}
	if n, ok := p.pulse.Working[probe.LocalBalancer]; ok { // kOps's own workers have none
		paths += fmt.Sprintf("  local %d/%d", n, p.pulse.Workers)
	}
	fmt.Fprintf(p.err, "  %d/%d %s  |  %s  |  %d sent %d failed %s", p.number, p.steps, p.acting, paths, p.pulse.Sent, p.pulse.Failed, live.Sparkline(p.spark))
	p.drawn = true
}

// audit says what a spec is before anything starts, and from where it goes.
func (p *printer) audit(file string, c *cluster.Cluster, start, to cluster.Topology, overlay lab.Overlay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, is := c.Topology(cluster.Release135), c.Topology(cluster.Release136)
	topology := string(was)
	if was != is {
		topology = fmt.Sprintf("%s under kOps 1.35 and older, %s under 1.36", was, is)
	}
	why := fmt.Sprintf("dns.type %s", orNone(string(c.DNSType)))
	if cluster.IsGossipName(c.Name) {
		why = "name ends in .k8s.local, " + why
	}
	balancer := "no load balancer"
	if lb := c.API.LoadBalancer; lb != nil {
		balancer = strings.TrimSpace("load balancer " + string(lb.Class))
	}
	p.line("%s   %s   (%s)   %s   %s", c.Name, topology, why, c.Cloud, balancer)
	from := ""
	if start != cluster.None && overlay != lab.Native {
		from = fmt.Sprintf("from %s over %s ", start, overlay)
	}
	p.line("  %s: %d control-plane nodes, %d workers in %d groups; rehearsing %sto %s", file,
		c.Size(cluster.RoleControlPlane), c.Size(cluster.RoleNode), len(c.GroupsOf(cluster.RoleNode)), from, to)
}

func orNone(s string) string {
	if s == "" {
		return "not set"
	}
	return s
}

// Started implements rehearse.Progress.
func (p *printer) Started(layout lab.Layout, steps, processes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = steps
	p.line("  lab: %d nodes, %d processes on %s, API server: built in (%.1f s)", len(layout.Nodes), processes, layout.Network, time.Since(p.began).Seconds())
}

// Step implements rehearse.Progress.
func (p *printer) Step(number int, title string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number, p.title = number, title
	p.line("step %2d/%d  %s", number, p.steps, title)
}

// Acting implements rehearse.Progress.
func (p *printer) Acting(node, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acting = strings.TrimSpace(node + " " + what)
	if p.verbose {
		p.line("           %s", p.acting)
	}
}

// Gate implements rehearse.Progress.
func (p *printer) Gate(node string, g report.Gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verbose || g.Verdict != report.Pass {
		p.line("           gate %-8s %s: %s (%.1f s)", g.Verdict, g.Name, g.Reason, g.Took.Seconds())
	}
}

// Note implements rehearse.Progress.
func (p *printer) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line("           %s", text)
}

// plainEvery is how many pulses pass between two lines where nothing can be
// redrawn: ten seconds.
const plainEvery = 20

// Watch implements rehearse.Progress.
func (p *printer) Watch(now rehearse.Pulse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spark = append(p.spark, now.Failed-p.pulse.Failed)
	p.pulse = now
	if len(p.spark) >= plainEvery {
		if !p.terminal {
			p.line("           %d probes a second, %d failed so far, longest gap %s", (now.Sent-p.last.Sent)*2/plainEvery, now.Failed, milliseconds(now.Longest))
			p.last = now
			p.spark = p.spark[:0]
		} else {
			p.spark = p.spark[1:]
		}
	}
	p.clear()
	p.draw()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// finish ends the live line.
func (p *printer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.number = 0
}
