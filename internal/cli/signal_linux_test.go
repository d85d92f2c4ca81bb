package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/internal/cli"
)

// TestSignalsEndACommandInOrder sends each while muster waits for a pipe that nobody
// fills. That the pipe could be opened for writing says that muster has come so far.
func TestSignalsEndACommandInOrder(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "muster", "plan", "-f", pipe)
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its exit code is looked at
			if got := cmd.ProcessState.ExitCode(); got != cli.ExitInterrupted || errs.String() != "muster: interrupted\n" {
				t.Errorf("got %v and %q, want exit code %d and one line", cmd.ProcessState, errs.String(), cli.ExitInterrupted)
			}
		})
	}
}

// TestNohupHolds is a run that was told to survive its terminal.
func TestNohupHolds(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap "" HUP; exec muster plan -f "$0"`, pipe)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != cli.ExitUsage {
		t.Errorf("got %v and %q, want that the empty manifest was read and refused", cmd.ProcessState, &out)
	}
}
