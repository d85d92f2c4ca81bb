package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
)

func newJournal(s streams) *cobra.Command {
	var f runFlags
	var run, output string
	cmd := &cobra.Command{
		Use:   "journal NAME",
		Short: "Show what was done on a cluster, entry by entry, and that nothing is missing",
		Long: `journal shows the journal of the run under way, or of the last one: an intent before
each action, gates and an outcome after it. Entries are chained by their hashes; a
journal whose chain does not hold is not shown but reported.

` + exitCodes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if err := f.settle(cmd, args); err != nil {
				return err
			}
			st, err := f.open(cmd.Context(), s)
			if err != nil {
				return err
			}
			r, err := f.entries(cmd.Context(), st, run)
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(s, r.Entries)
			}
			printJournal(s.out, r)
			return nil
		},
	}
	f.addTo(cmd)
	cmd.Flags().StringVar(&run, "run", "", "`run` to show (default: the one under way, or the last)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// entries reads one run, by its name if it is given.
func (f *runFlags) entries(ctx context.Context, st store.Store, run string) (reconcile.Record, error) {
	if run == "" {
		return f.current(ctx, st)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := reconcile.Read(ctx, st, f.name, run)
	if errors.Is(err, store.ErrNotFound) {
		names, _ := reconcile.Runs(ctx, st, f.name)
		return r, usagef("--run %q: %s has the runs %s", run, f.name, strings.Join(names, ", "))
	}
	return r, err
}

func printJournal(w io.Writer, r reconcile.Record) {
	fmt.Fprintf(w, "run %s   %s   %s -> %s   %d entries, chain intact\n", r.ID, r.Plan.Problem.Cluster, r.Plan.Problem.From, r.Plan.Problem.To, len(r.Entries))
	by := ""
	for _, e := range r.Entries {
		if e.By != by {
			by = e.By
			fmt.Fprintf(w, "by %s\n", by)
		}
		line := strings.Join(strings.Fields(strings.Join([]string{e.Step, e.Action, e.Result}, "  ")), " ")
		if why := saidIn(e); why != "" {
			line = strings.TrimSpace(line + "   " + why)
		}
		fmt.Fprintf(w, "%4d  %s  %-8s %s\n", e.Seq, e.Time.Format("2006-01-02 15:04:05"), e.Kind, line)
	}
}

// saidIn is the part of an entry's detail that is for people, on one line.
func saidIn(e journal.Entry) string {
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
	if len(e.Detail) == 0 || json.Unmarshal(e.Detail, &d) != nil {
		return ""
	}
	var parts []string
	if d.Direction != "" {
		parts = append(parts, fmt.Sprintf("%s, after step %d", d.Direction, d.After))
	}
	for _, p := range []string{d.What, d.Name, d.Reason, d.Why, d.Error, d.Evidence} {
		if p = strings.Join(strings.Fields(p), " "); p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}
