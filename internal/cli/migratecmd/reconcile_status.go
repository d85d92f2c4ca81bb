package migratecmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// printStatus prints where a run stands, and what to type next.
func printStatus(w io.Writer, at runState, f runFlags) {
	st, p := at.status, at.record.Plan.Problem
	live := st.Lock.Held(time.Now())
	verdict := "stopped"
	switch {
	case st.Over != "":
		verdict = st.Over
	case live && ownerGone(st.Lock):
		verdict = "killed"
	case live:
		verdict = "under way"
	case st.Ended != "":
		verdict = st.Ended
	}
	progress := fmt.Sprintf("%d of %d steps %s", st.Leg.Done, len(st.Leg.Steps), st.Leg.Direction)
	if st.Over == reconcile.EndedAborted {
		progress = fmt.Sprintf("%d of %d steps stand", st.Reached, len(at.record.Plan.Steps))
	}
	fmt.Fprintf(w, "%s   run %s   %s -> %s   %s   %s\n", st.Cluster, st.Run, p.From, p.To, progress, verdict)
	row := func(head, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-9s  %s\n", head, text)
		}
	}
	if next, ok := st.Next(); ok {
		begun := ""
		if st.Begun {
			begun = "   (begun)"
		}
		row("next", fmt.Sprintf("step %d, %s%s", next.Number, next.Title, begun))
	}
	if !live {
		row("why", st.Why)
	}
	row("bridges", strings.Join(st.Up, ", "))
	if live {
		row("lock", st.Lock.String())
	}
	if c := st.Control.Paused; c != nil {
		row("paused", c.String()+"; muster reconcile resume "+f.Args()+" lets it go on")
	}
	if c := st.Control.Abort; c != nil {
		row("abort", "asked for "+c.String())
	}
	row("way back", f.wayBack(at))
	row("go on", f.nextCommand(at))
}

// wayBack returns what the plan has proven about a way back from where a run stands.
func (f *runFlags) wayBack(at runState) string {
	st := at.status
	i := slices.IndexFunc(at.record.Plan.Back, func(w plan.WayBack) bool { return w.After == st.Reached })
	if i < 0 || st.Leg.Direction == report.Back || st.Over != "" && st.Over != reconcile.EndedAborted {
		return ""
	}
	way := at.record.Plan.Back[i]
	switch {
	case way.None != "":
		return "none: " + way.None
	case len(way.Steps) == 0:
		return "nothing to undo"
	}
	see := "muster reconcile rollback " + f.Args()
	if at.record.Plan.Problem.Via == plan.Kops && slices.ContainsFunc(way.Steps, func(id string) bool { return strings.HasPrefix(id, "restore-") }) {
		see += " --kops-before KOPS"
	}
	return fmt.Sprintf("%s; shown, as it is from now on, by: %s", strings.Join(way.Steps, ", "), see)
}

// nextCommand returns what to type so that a run continues; empty while a process runs
// it.
func (f *runFlags) nextCommand(at runState) string {
	st := at.status
	onwards := f.resumeCommand(st.Leg.Direction)
	switch {
	case st.Over == reconcile.EndedAborted:
		return "by a new plan: " + at.record.Plan.Problem.Again(f.Args())
	case st.Over != "":
		return ""
	case st.Lock.Held(time.Now()) && ownerGone(st.Lock):
		return f.unlockAdvice() + "; then " + onwards
	case st.Lock.Held(time.Now()):
		return ""
	case st.Control.Abort != nil:
		return onwards + " ends it there; muster reconcile resume " + f.Args() + " takes the abort back"
	case st.Control.Paused != nil:
		return "muster reconcile resume " + f.Args() + ", then " + onwards
	case st.Holding():
		return "muster reconcile release " + f.Args() + ", then " + onwards
	}
	return onwards
}

// unlockAdvice says what to do about a lock that a process has left behind.
func (f *runFlags) unlockAdvice() string {
	return "that process is gone from this machine, so: muster reconcile unlock " + f.Args() + " --force"
}

// processOf matches the host and process in a lock's owner, as [owner] writes them.
var processOf = regexp.MustCompile(`@(.+) process ([0-9]+)$`)

// ownerGone reports whether a lock was left behind by a process of this machine that no
// longer runs. Processes of other machines are never reported gone.
func ownerGone(l lock.State) bool {
	m := processOf.FindStringSubmatch(l.Owner)
	if host, err := os.Hostname(); err != nil || m == nil || m[1] != host {
		return false
	}
	pid, err := strconv.Atoi(m[2])
	if err != nil {
		return false
	}
	p, err := os.FindProcess(pid)
	return err == nil && errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
