package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli"
)

// unwritable PROGRAM ARGS... runs a program whose standard output is a full disk, and
// checks that it fails and that its last words say why.
func unwritable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: unwritable PROGRAM ARGS...")
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	ts.Check(err)
	defer full.Close()
	code, said := withOutput(ts, full, args)
	lines := strings.Split(strings.TrimSpace(said), "\n")
	if want := "the output is not complete: write /dev/stdout: no space left on device"; code != cli.ExitFailed || !strings.HasSuffix(lines[len(lines)-1], want) {
		ts.Fatalf("exit code %d, want %d; it said %q, want the last line to end in %q", code, cli.ExitFailed, said, want)
	}
}

// unread CODE PROGRAM ARGS... runs a program whose output nobody reads, and checks its
// exit code and that it says nothing of that.
func unread(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: unread CODE PROGRAM ARGS...")
	}
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	defer w.Close()
	code, said := withOutput(ts, w, args[1:])
	if strconv.Itoa(code) != args[0] || strings.Contains(said, "pipe") {
		ts.Fatalf("exit code %d, want %s; it said %q", code, args[0], said)
	}
}

// withOutput runs a program of the story with a standard output of one's own.
func withOutput(ts *testscript.TestScript, out *os.File, args []string) (code int, said string) {
	var program string
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, args[0]); program == "" {
			if _, err := os.Stat(path); err == nil {
				program = path
			}
		}
	}
	var errs bytes.Buffer
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), out, &errs
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "KOPS_STATE_STORE", "KOPS_CLUSTER_NAME", "AWS_EC2_METADATA_DISABLED"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	if err := cmd.Run(); cmd.ProcessState == nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}

// TestEveryCommandIsTriedWithoutOutput: the story of what cannot be written is told of
// every command.
func TestEveryCommandIsTriedWithoutOutput(t *testing.T) {
	// elsewhere are commands that the story cannot run, and why.
	elsewhere := map[string]string{
		"muster probe":              "needs a server; what it prints goes the way of gossip watch",
		"muster lab up":             "needs the node programs",
		"muster lab down":           "needs a lab that runs",
		"muster lab fault":          "needs a lab that runs",
		"muster lab status":         "needs a lab that runs",
		"muster reconcile lab":      "needs a lab that runs",
		"muster reconcile rollback": "needs a cloud",
		"muster plan cluster":       "needs a cloud; prints as muster plan does",
		"muster rehearse cluster":   "needs a cloud; prints as muster rehearse does",
		"muster token revoke":       "needs the id of a token, which is random",
	}
	story, err := os.ReadFile("testdata/script/output.txt")
	if err != nil {
		t.Fatal(err)
	}
	var tried []string
	for _, m := range regexp.MustCompile(`(?m)^unwritable (muster.*)$`).FindAllStringSubmatch(string(story), -1) {
		found, _, err := cli.Commands().Find(strings.Fields(m[1])[1:])
		if err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		tried = append(tried, found.CommandPath())
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if path := c.CommandPath(); c.Runnable() && slices.Contains(tried, path) == (elsewhere[path] != "") {
			t.Errorf("%s is tried: %v; why not: %q", path, slices.Contains(tried, path), elsewhere[path])
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(cli.Commands())
}
