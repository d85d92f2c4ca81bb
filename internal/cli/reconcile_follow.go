package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// follower shows a run while it lasts, in plain lines on standard error. It
// implements reconcile.Progress.
type follower struct {
	out     io.Writer
	verbose bool

	mu    sync.Mutex // guards what follows
	steps int
	last  time.Time // of the last line on what was measured
}

func newFollower(s streams, verbose bool) *follower {
	return &follower{out: s.err, verbose: verbose}
}

// finish ends what was shown; lines end by themselves.
func (f *follower) finish() {}

func (f *follower) line(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(f.out, format+"\n", args...)
}

// Started implements reconcile.Progress.
func (f *follower) Started(l reconcile.Leg) {
	f.mu.Lock()
	f.steps = l.After + len(l.Steps)
	if l.Direction != report.Forward {
		f.steps = len(l.Steps)
	}
	f.mu.Unlock()
	f.line("%s   %d steps, %d of them done", l.Direction, len(l.Steps), l.Done)
}

// Looked implements reconcile.Progress.
func (f *follower) Looked(reconcile.World) {}

// Step implements reconcile.Progress.
func (f *follower) Step(s plan.Planned) { f.line("step %2d/%d  %s", s.Number, f.steps, s.Title) }

// Acting implements reconcile.Progress.
func (f *follower) Acting(a reconcile.Action) {
	f.line("           %s", acting(a.Node, a.What, a.Canary))
}

// acting says what an action does to what.
func acting(node, what string, canary bool) string {
	if node != "" && !strings.Contains(what, node) {
		what = node + ": " + what
	}
	if canary {
		what += "   (canary)"
	}
	return what
}

// Said implements reconcile.Progress.
func (f *follower) Said(line string) {
	if f.verbose {
		f.line("             %s", line)
	}
}

// Gate implements reconcile.Progress.
func (f *follower) Gate(node string, g report.Gate) {
	if f.verbose || g.Verdict != report.Pass {
		f.line("           gate %-8s %s: %s (%.1f s)", g.Verdict, strings.TrimSpace(node+" "+g.Name), g.Reason, g.Took.Seconds())
	}
}

// Outcome implements reconcile.Progress.
func (f *follower) Outcome(_ reconcile.Action, trouble string) {
	if trouble != "" {
		f.line("           %s", trouble)
	}
}

// Waiting implements reconcile.Progress.
func (f *follower) Waiting(what, how string) { f.line("waiting: %s\n  %s", what, how) }

// Note implements reconcile.Progress.
func (f *follower) Note(text string) { f.line("           %s", text) }

// measuredLine is the pause between two lines on what was measured.
const measuredLine = 10 * time.Second

// Measured implements reconcile.Progress.
func (f *follower) Measured(all []report.Availability) {
	f.mu.Lock()
	due := time.Since(f.last) >= measuredLine
	if due {
		f.last = time.Now()
	}
	f.mu.Unlock()
	for _, a := range all {
		if due {
			f.line("           %s by %s: %d sent, %d failed, longest gap %.0f ms", a.Vantage, a.Path, a.Sent, a.Failed, a.Longest)
		}
	}
}

// printPreview shows what a run would do.
func printPreview(w io.Writer, p reconcile.Preview) {
	if p.Over != "" {
		fmt.Fprintf(w, "nothing to do: %s\n", p.Over)
		return
	}
	for _, line := range p.Changed {
		fmt.Fprintf(w, "changed   %s\n", line)
	}
	if p.Refused != "" {
		return
	}
	fmt.Fprintf(w, "%s   run %s   %s   %d steps left\n\n", p.Cluster, p.Run, p.Direction, len(p.Steps))
	for i, s := range p.Steps {
		marks := ""
		if s.Hold {
			marks += "   HOLD: waits for you"
		}
		if s.Begun {
			marks += "   (begun)"
		}
		fmt.Fprintf(w, "%3d  %s%s\n", s.Number, s.Title, marks)
		for _, n := range s.Needs {
			if i == 0 || n.Holds == cloud.Yes {
				fmt.Fprintf(w, "       need %-8s %s\n", n.Holds, n.Says)
			}
		}
		for _, a := range s.Actions {
			fmt.Fprintf(w, "       %s\n", acting(a.Node, a.What, false))
			for _, g := range a.Gates {
				if g.Verdict != "" {
					fmt.Fprintf(w, "         gate %-8s %s: %s\n", g.Verdict, g.Name, g.Reason)
				}
			}
		}
		if s.Unknown != "" {
			fmt.Fprintf(w, "       cannot be said yet: %s\n", s.Unknown)
		}
	}
}
