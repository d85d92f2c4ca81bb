package cli_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"github.com/muster-dev/muster/internal/journal"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/probe"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/report"
)

// migrated MANIFEST STATE leaves in a state store what a migration leaves that
// was carried out to its end: its plan, and a journal.
func migrated(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: migrated MANIFEST STATE")
	}
	file, write := begun(ts, args[0], args[1], "ada@laptop", plan.Options{})
	ts.Setenv("RUN", reconcile.RunID(file))
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
