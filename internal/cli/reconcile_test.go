package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

// stopped MANIFEST STATE STEPS [VIA] leaves in a state store what a migration
// leaves that was stopped by a gate after some steps. STEPS may be "hold": all
// before the first one.
func stopped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: stopped MANIFEST STATE STEPS [VIA]")
	}
	var ask plan.Options
	if len(args) == 4 {
		ask.Via = plan.Executor(args[3])
	}
	file, write := begun(ts, args[0], args[1], "ada@laptop process 7", ask)
	steps := slices.IndexFunc(file.Steps, func(s plan.Planned) bool { return s.Hold })
	if args[2] != "hold" {
		var err error
		steps, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	write(journal.Entry{Kind: journal.Begun}, report.Begun{Plan: file.ID, Leg: 1, Direction: report.Forward})
	for _, s := range file.Steps[:steps] {
		write(journal.Entry{Kind: journal.Intent, Step: report.StepKey(s)}, report.Intent{What: s.Title})
		write(journal.Entry{Kind: journal.Outcome, Step: report.StepKey(s), Result: "done"}, report.Outcome{})
	}
	write(journal.Entry{Kind: journal.Ended, Result: reconcile.EndedStopped}, report.Ended{Why: `gate "both ports answer": fail: 3988 refused`})
}

// begun finds the plan of a manifest, puts it into a state store as that of a run,
// and returns what writes into the run's journal.
func begun(ts *testscript.TestScript, manifest, state, by string, ask plan.Options) (plan.File, func(journal.Entry, any)) {
	ctx := context.Background()
	c, err := cluster.Parse(manifest, []byte(ts.ReadFile(manifest)))
	ts.Check(err)
	found, err := plan.Find(ctx, plan.FromSpec(c, cluster.Release135, ask))
	ts.Check(err)
	file := plan.Seal(found, nil)
	data, err := file.JSON()
	ts.Check(err)
	st, err := open.Store(ctx, state, open.Config{Getenv: os.Getenv})
	ts.Check(err)
	dir := store.Layout(c.Name).Muster("runs", reconcile.RunID(file))
	_, err = st.Put(ctx, dir+"/plan.json", data, store.Absent)
	ts.Check(err)
	j, err := journal.Open(ctx, st, dir+"/journal")
	ts.Check(err)
	return file, func(e journal.Entry, detail any) {
		e.Detail, err = json.Marshal(detail)
		ts.Check(err)
		_, err = j.Append(ctx, journal.Writer{By: by, Token: 1}, e)
		ts.Check(err)
	}
}

// locked STATE OWNER takes the cluster's lock for somebody who does not give it
// back. A process "@here" is one of this machine.
func locked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: locked STATE OWNER")
	}
	ctx := context.Background()
	st, err := open.Store(ctx, args[0], open.Config{Getenv: os.Getenv})
	ts.Check(err)
	host, err := os.Hostname()
	ts.Check(err)
	owner := strings.Replace(args[1], "@here ", "@"+host+" ", 1)
	_, err = lock.Acquire(ctx, st, reconcile.LockKey("atlas.k8s.local"), owner, "a story")
	ts.Check(err)
}

// tampered DIR changes a word in the journal of the run that is kept in a
// directory.
func tampered(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tampered DIR")
	}
	entries, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*", "muster", "runs", "*", "journal", "0000003.json"))
	ts.Check(err)
	for _, e := range entries {
		data, err := os.ReadFile(e)
		ts.Check(err)
		ts.Check(os.WriteFile(e, bytes.Replace(data, []byte("done"), []byte("gone"), 1), 0o600))
	}
}
