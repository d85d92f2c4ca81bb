package labcmd

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/lab"
	"github.com/muster-dev/muster/internal/live"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/rehearse"
	"github.com/muster-dev/muster/internal/report"
)

// A printer shows a rehearsal while it runs: on a terminal a few lines that are
// redrawn under those that stay, elsewhere plain lines. It implements
// rehearse.Progress.
type printer struct {
	out      io.Writer // where evidence goes
	terminal bool
	verbose  bool
	began    time.Time

	mu     sync.Mutex // guards the fields below
	screen live.Screen
	api    string // what serves the API
	number int
	steps  int
	title  string
	acting string
	pulse  rehearse.Pulse
	last   rehearse.Pulse
	spark  []int
}

func newPrinter(out, err io.Writer, verbose bool) *printer {
	return &printer{out: out, screen: live.Screen{Out: err}, terminal: live.Redraws(err), verbose: verbose, began: time.Now()}
}

// line prints a line that stays. The caller holds mu.
func (p *printer) line(format string, args ...any) {
	if !p.terminal {
		fmt.Fprintf(p.screen.Out, format+"\n", args...)
		return
	}
	p.screen.Above(fmt.Sprintf(format, args...))
	p.draw()
}

// draw redraws the live lines. The caller holds mu.
func (p *printer) draw() {
	if !p.terminal || p.number == 0 {
		return
	}
	now := p.pulse
	ways := fmt.Sprintf("name %d/%d", now.Working[probe.ByName], now.Workers)
	if n, ok := now.Working[probe.LoadBalancer]; ok {
		ways += fmt.Sprintf("   load balancer %d/%d", n, now.Workers)
	}
	if n, ok := now.Working[probe.LocalBalancer]; ok { // kOps's own workers have none
		ways += fmt.Sprintf("   local balancer %d/%d", n, now.Workers)
	}
	p.screen.Draw([]string{
		fmt.Sprintf(" step    %d/%d  %s   %s", p.number, p.steps, p.title, time.Since(p.began).Round(time.Second)),
		" now     " + p.acting,
		" paths   " + ways,
		fmt.Sprintf(" probes  %d sent   %d failed   longest gap %s   %s", now.Sent, now.Failed, gap(now.Longest), live.Sparkline(p.spark)),
	})
}

// intro prints what a spec is and where the rehearsal leads, before anything starts.
func (p *printer) intro(cfg rehearse.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.api = cfg.API()
	c, start := cfg.Cluster, cfg.Start()
	was, is := c.Topology(cluster.Release135), c.Topology(cluster.Release136)
	topology := string(was)
	if was != is {
		topology = fmt.Sprintf("%s under kOps 1.35 and older, %s under 1.36", was, is)
	}
	why := fmt.Sprintf("dns.type %s", console.OrNotSet(string(c.DNSType)))
	if cluster.IsGossipName(c.Name) {
		why = "name ends in .k8s.local, " + why
	}
	balancer := "no load balancer"
	if lb := c.API.LoadBalancer; lb != nil {
		balancer = strings.TrimSpace("load balancer " + string(lb.Class))
	}
	p.line("%s   %s   (%s)   %s   %s", c.Name, topology, why, c.Cloud, balancer)
	from := ""
	if start != cluster.None && cfg.Overlay != lab.Native {
		from = fmt.Sprintf("from %s over %s ", start, cfg.Overlay)
	}
	p.line("  %s: %s, %s in %s; rehearsing %sto %s", cfg.File, console.Count(c.Size(cluster.RoleControlPlane), "control-plane node", "control-plane nodes"),
		console.Count(c.Size(cluster.RoleNode), "worker", "workers"), console.Count(len(c.GroupsOf(cluster.RoleNode)), "group", "groups"), from, cfg.To)
}

// Started implements rehearse.Progress.
func (p *printer) Started(layout lab.Layout, steps, processes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = steps
	p.line("  lab: %d nodes, %d processes on %s, API server: %s (%.1f s)", len(layout.Nodes), processes, layout.Network, p.api, time.Since(p.began).Seconds())
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
	p.draw()
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }

// finish ends the live line.
func (p *printer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		p.screen.Clear()
	}
	p.number = 0
}
