package migratecmd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/live"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
)

// A key is pressed by mistake: it may release the hold that the run is at, and no
// other.
func TestTheKeyForHoldsReleasesTheOneThatTheRunIsAt(t *testing.T) {
	file := plan.Seal(plan.Plan{
		Problem: plan.Problem{Cluster: "atlas.k8s.local", Endpoints: plan.Balancer},
		Steps:   []plan.Planned{{Number: 1, ID: "roll-workers", Title: "roll"}, {Number: 2, ID: "narrow", Title: "narrow", Hold: true}},
	}, nil)
	st := &mem.Store{Name: "state"}
	dir := store.Layout("atlas.k8s.local").Muster("runs", reconcile.RunID(file))
	data, err := file.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), dir+"/plan.json", data, store.Absent); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), st, dir+"/journal")
	if err != nil {
		t.Fatal(err)
	}
	write := func(e journal.Entry, detail any) {
		t.Helper()
		if e.Detail, err = json.Marshal(detail); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Append(t.Context(), journal.Writer{By: "ada", Token: 1}, e); err != nil {
			t.Fatal(err)
		}
	}
	var key live.Key
	for _, k := range runKeys(reconcile.Config{Plan: file, Store: st, Owner: "ada"}) {
		if k.Rune == 'h' {
			key = k
		}
	}
	pressed := func(want string, released bool) {
		t.Helper()
		said, err := key.Do(t.Context())
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("the key says %q, %v; want %q", said, err, want)
		}
		record, err := reconcile.Read(t.Context(), st, "atlas.k8s.local", reconcile.RunID(file))
		if err != nil {
			t.Fatal(err)
		}
		status, err := record.Status(lock.State{})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(status.Control.Released) > 0; got != released {
			t.Errorf("a hold is released: %v; want %v", got, released)
		}
	}
	write(journal.Entry{Kind: journal.Begun}, report.Begun{Plan: file.ID, Leg: 1, Direction: report.Forward})
	write(journal.Entry{Kind: journal.Intent, Step: "1 roll-workers"}, report.Intent{What: "roll"})
	pressed("no hold is waited at", false)
	write(journal.Entry{Kind: journal.Outcome, Step: "1 roll-workers", Result: "done"}, report.Outcome{})
	pressed("released the hold before step 2 narrow", true)
}
