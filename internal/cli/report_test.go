package cli_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

// migrated MANIFEST STATE leaves in a state store what a migration leaves that
// was carried out to its end: its plan, and a journal.
func migrated(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: migrated MANIFEST STATE")
	}
	ctx := context.Background()
	c, err := cluster.Parse(args[0], []byte(ts.ReadFile(args[0])))
	ts.Check(err)
	found, err := plan.Find(ctx, plan.FromSpec(c, cluster.Release135, plan.Ask{}))
	ts.Check(err)
	file := plan.Seal(found, nil)
	data, err := file.JSON()
	ts.Check(err)
	st, err := open.Store(ctx, args[1], open.Config{Getenv: os.Getenv})
	ts.Check(err)
	ts.Setenv("RUN", reconcile.RunID(file))
	dir := store.Layout(c.Name).Muster("runs", reconcile.RunID(file))
	_, err = st.Put(ctx, dir+"/plan.json", data, store.Absent)
	ts.Check(err)
	j, err := journal.Open(ctx, st, dir+"/journal")
	ts.Check(err)
	write := func(e journal.Entry, detail any) {
		e.Detail, err = json.Marshal(detail)
		ts.Check(err)
		_, err = j.Append(ctx, journal.Writer{By: "ada@laptop", Token: 1}, e)
		ts.Check(err)
	}
	write(journal.Entry{Kind: journal.Begun}, report.Begun{Plan: file.ID, Program: "1.0.0", Leg: 1, Direction: report.Forward})
	for _, s := range file.Steps {
		key := report.StepKey(s)
		write(journal.Entry{Kind: journal.Intent, Step: key, Action: "a"}, report.Intent{What: s.Title})
		write(journal.Entry{Kind: journal.Gate, Step: key, Action: "a", Result: "pass"}, report.Asked{Name: "as it should be", Reason: "<seen>"})
		write(journal.Entry{Kind: journal.Outcome, Step: key, Action: "a", Result: "done"}, report.Outcome{Availability: []report.Availability{
			{Path: probe.LoadBalancer, Vantage: "operator", Sent: 10, Longest: 12.5, Course: []report.Cell{{At: time.Now().Unix(), Sent: 10}}}}})
		write(journal.Entry{Kind: journal.Outcome, Step: key, Result: "done"}, report.Outcome{})
	}
	write(journal.Entry{Kind: journal.Ended, Result: reconcile.EndedDone}, report.Ended{})
}

// signingkeys makes the keys of a story: key and key.pub, other.pub of somebody
// else, signers that name the first, and strangers that do not.
func signingkeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: signingkeys")
	}
	write := func(name, text string) { ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600)) }
	var lines []string
	for _, name := range []string{"key", "other"} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		ts.Check(err)
		key, err := ssh.NewPublicKey(public)
		ts.Check(err)
		block, err := ssh.MarshalPrivateKey(private, "made for a test")
		ts.Check(err)
		lines = append(lines, string(ssh.MarshalAuthorizedKey(key)))
		write(name, string(pem.EncodeToMemory(block)))
		write(name+".pub", lines[len(lines)-1])
	}
	write("signers", `ada@example.org namespaces="muster-report" `+lines[0])
	write("strangers", `ada@example.org namespaces="git" `+lines[0]+"bob@example.org "+lines[1])
}
