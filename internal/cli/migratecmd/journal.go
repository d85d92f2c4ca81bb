package migratecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

// NewJournal returns muster journal.
func NewJournal(s console.Streams) *cobra.Command {
	var f runFlags
	var run, output string
	cmd := &cobra.Command{
		Use:   "journal NAME",
		Short: "Show what was done on a cluster, entry by entry, and that nothing is missing",
		Long: `journal shows the journal of the run under way, or of the last one: an intent before
each action, gates and an outcome after it. Entries are chained by their hashes; a
journal whose chain does not hold is not shown but reported.

` + console.ExitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := console.CheckOutput(output, "text", "json"); err != nil {
				return err
			}
			if err := f.resolve(cmd, args); err != nil {
				return err
			}
			st, err := f.Open(cmd.Context(), s)
			if err != nil {
				return err
			}
			r, err := f.entries(cmd.Context(), st, run)
			if err != nil {
				return err
			}
			if output == "json" {
				return console.WriteJSON(s.Out, r.Entries)
			}
			printJournal(s.Out, r)
			return nil
		},
	}
	f.AddTo(cmd)
	cmd.Flags().StringVar(&run, "run", "", "`run` to show (default: the one under way, or the last)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// entries reads one run, by its name if it is given.
func (f *runFlags) entries(ctx context.Context, st store.Store, run string) (reconcile.Record, error) {
	if run == "" {
		return f.current(ctx, st)
	}
	ctx, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	r, err := reconcile.Read(ctx, st, f.Name, run)
	if errors.Is(err, store.ErrNotFound) {
		names, _ := reconcile.Runs(ctx, st, f.Name)
		return r, console.Usagef("--run %q: %s has the runs %s", run, f.Name, strings.Join(names, ", "))
	}
	return r, err
}

// printJournal prints a line for each entry, below its step, and that below its day and
// person.
func printJournal(w io.Writer, r reconcile.Record) {
	fmt.Fprintf(w, "run %s   %s   %s -> %s   %d entries, chain intact\n", r.ID, r.Plan.Problem.Cluster, r.Plan.Problem.From, r.Plan.Problem.To, len(r.Entries))
	under, step := "", ""
	for _, e := range r.Entries {
		if now := e.Time.Format(time.DateOnly) + "   by " + e.By; now != under {
			under, step = now, ""
			fmt.Fprintf(w, "\n%s\n", now)
		}
		if e.Step != "" && e.Step != step {
			step = e.Step
			fmt.Fprintf(w, "step %s\n", step)
		}
		line := fmt.Sprintf("%5d  %s  %-8s%s", e.Seq, e.Time.Format(time.TimeOnly), e.Kind, entryText(e))
		fmt.Fprintln(w, strings.TrimRight(strings.Join(strings.FieldsFunc(line, unicode.IsControl), " "), " "))
	}
}

// entryText is an entry's detail on one line. Evidence may be the console of a machine,
// and only its lines are counted.
func entryText(e journal.Entry) string {
	var d struct {
		Direction report.Direction `json:"direction"`
		After     int              `json:"after"`
		What      string           `json:"what"`
		Name      string           `json:"name"`
		Reason    string           `json:"reason"`
		Why       string           `json:"why"`
		Error     string           `json:"error"`
		Evidence  string           `json:"evidence"`
	}
	if len(e.Detail) > 0 && json.Unmarshal(e.Detail, &d) != nil {
		return "its detail cannot be read"
	}
	switch e.Kind {
	case journal.Begun:
		switch {
		case d.Direction == report.Back && d.After == 0:
			return "back to where the plan began"
		case d.Direction == report.Back:
			return fmt.Sprintf("back to behind step %d", d.After)
		case d.After > 0:
			return fmt.Sprintf("%s, from behind step %d", d.Direction, d.After)
		default:
			return string(d.Direction)
		}
	case journal.Intent:
		return joinNonEmpty(e.Action, d.What)
	case journal.Gate:
		return fmt.Sprintf("%-8s", e.Result) + joinNonEmpty(d.Name, d.Reason)
	case journal.Outcome:
		said := joinNonEmpty(strings.TrimSpace(e.Action+" "+e.Result), d.Error)
		if d.Evidence != "" {
			said += fmt.Sprintf("; evidence: %s, in muster report", console.Count(strings.Count(strings.TrimSpace(d.Evidence), "\n")+1, "line", "lines"))
		}
		return said
	case journal.Ended:
		if d.Why == e.Result {
			d.Why = ""
		}
		return joinNonEmpty(e.Result, d.Why)
	default:
		return joinNonEmpty(d.What)
	}
}

// joinNonEmpty joins the parts that are not empty.
func joinNonEmpty(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ": ")
}
