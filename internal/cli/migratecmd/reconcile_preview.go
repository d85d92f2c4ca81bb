package migratecmd

import (
	"fmt"
	"io"
	"strings"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/reconcile"
)

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
	if said := p.Control.Abort; said != nil {
		fmt.Fprintf(w, "abort     asked for %s: --yes ends the run here; muster reconcile resume takes that back\n", said)
	}
	if said := p.Control.Paused; said != nil {
		fmt.Fprintf(w, "paused    %s: --yes does nothing before muster reconcile resume\n", said)
	}
	fmt.Fprintf(w, "%s   run %s   %s   %s left\n\n", p.Cluster, p.Run, p.Direction, console.Count(len(p.Steps), "step", "steps"))
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
			what := a.What
			if a.Node != "" && !strings.Contains(what, a.Node) {
				what = a.Node + ": " + what
			}
			if what != s.Title { // which is printed already
				fmt.Fprintf(w, "       %s\n", what)
			}
			for _, g := range a.Gates {
				if g.Verdict != "" {
					fmt.Fprintf(w, "         gate %-8s %s: %s\n", g.Verdict, g.Name, g.Reason)
				}
			}
		}
		switch {
		case s.Unknown != "":
			fmt.Fprintf(w, "       cannot be said yet: %s\n", s.Unknown)
		case len(s.Actions) == 0:
			fmt.Fprintf(w, "       nothing to do now; decided when the steps before it are done\n")
		}
	}
}
