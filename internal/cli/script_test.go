package cli_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/peer"
	"github.com/muster-dev/muster/internal/store/s3/mototest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"muster":       func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"muster-agent": func() { os.Exit(daemon.Main("muster-agent", nil, os.Args[1:], os.Stdout, os.Stderr)) },
		"muster-peer":  func() { os.Exit(peer.Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// A lab's directory has a short path, which a test's has not.
			short, err := os.MkdirTemp("/tmp", "m")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(short) })
			env.Setenv("SHORT", short)
			self, err := os.Executable()
			if err != nil {
				return err
			}
			env.Setenv("SELF", self)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":       exits,
			"refuses":     refuses,
			"unwritable":  unwritable,
			"unread":      unread,
			"holds":       holds,
			"mesh":        mesh,
			"members":     members,
			"apiserver":   apiserver,
			"serves":      serves,
			"replaces":    replaces,
			"migrated":    migrated,
			"stopped":     stopped,
			"locked":      locked,
			"tampered":    tampered,
			"signingkeys": signingkeys,
		},
	})
}

// TestMotoScripts runs the stories that need an S3 server.
func TestMotoScripts(t *testing.T) {
	endpoint := mototest.Start(t)
	mototest.Bucket(t, endpoint, "kops-state")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/moto",
		Setup: func(env *testscript.Env) error {
			env.Setenv("S3_ENDPOINT", endpoint)
			env.Setenv("AWS_REGION", "us-east-1")
			env.Setenv("AWS_ACCESS_KEY_ID", mototest.Credentials)
			env.Setenv("AWS_SECRET_ACCESS_KEY", mototest.Credentials)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"refuses": refuses},
	})
}

// exits CODE PROGRAM ARGS... runs a program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// refuses CODE PROGRAM ARGS... is exits, and the program has written nothing to
// standard output and one line to standard error.
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	exits(ts, neg, args)
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output is %q, want nothing", out)
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "muster") {
		ts.Fatalf("standard error is %q, want one line that begins with the program's name", said)
	}
}

// holds DIR NAMES... checks what a directory holds, in order of name.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: holds DIR NAMES...")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, args[1:]) {
		ts.Fatalf("%s holds %q, want %q", args[0], got, args[1:])
	}
}

// replaces OLD NEW FILE replaces the first OLD in a file, which must have one.
func replaces(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replaces OLD NEW FILE")
	}
	text := ts.ReadFile(args[2])
	if !strings.Contains(text, args[0]) {
		ts.Fatalf("%s has no %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Replace(text, args[0], args[1], 1)), 0o644))
}
