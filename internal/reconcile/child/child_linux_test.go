package child

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runIn tells the test binary to run the script of a directory.
const runIn = "MUSTER_TEST_CHILD_IN"

// TestHelperProcess is not a test but the parent process that is killed.
func TestHelperProcess(t *testing.T) {
	if dir := os.Getenv(runIn); dir != "" {
		t.Fatal(Run(t.Context(), exec.Command(filepath.Join(dir, "script")), time.Second))
	}
}

// script writes a shell script that records its PID in the file first and then runs
// then.
func script(t *testing.T, then string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncd "+filepath.Dir(path)+"\nsays() { echo $1 > new.$2; mv new.$2 $2; }\nsays $$ first\n"+then+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// pidOf waits until one of a script's processes has written its PID.
func pidOf(t *testing.T, script, which string) (pid int) {
	t.Helper()
	eventually(t, which+" runs", func() bool {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(script), which))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		return err == nil && pid > 0
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // by its own number, and only if it is left
	return pid
}

func TestACommandIsKilledWithItsParent(t *testing.T) {
	path := script(t, "exec sleep 300")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self, "-test.run", "^TestHelperProcess$")
	parent.Env = append(os.Environ(), runIn+"="+filepath.Dir(path))
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, path, "first")
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	eventually(t, "the command is gone", func() bool { return !alive(pid) })
}

func TestCancellationEndsACommandsDescendants(t *testing.T) {
	for name, then := range map[string]string{
		"that ends when it is asked":        "sh -c 'cd \"$1\"; echo $$ > n; mv n second; exec sleep 300' x $PWD\n:",
		"that ignores it":                   "trap '' INT\nsh -c 'cd \"$1\"; echo $$ > n; mv n second; exec sleep 300' x $PWD\n:",
		"that outlives what had started it": "trap '' INT\nsh -c 'cd \"$1\"; echo $$ > n; mv n second; exec sleep 300' x $PWD >/dev/null 2>&1 &\ntrap - INT\nexec sleep 300",
	} {
		t.Run(name, func(t *testing.T) {
			path := script(t, then)
			ctx, interrupt := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, exec.Command(path), 200*time.Millisecond) }()
			first, second := pidOf(t, path, "first"), pidOf(t, path, "second")
			interrupt()
			if err := <-ended; err == nil {
				t.Error("it ended well")
			}
			for _, pid := range []int{first, second} {
				eventually(t, fmt.Sprint(pid, " is gone"), func() bool { return !alive(pid) })
			}
		})
	}
}

// In a group of its own a command does not receive the terminal's Ctrl-C: only this
// process does, and it ends the command in order.
func TestACommandLeadsItsOwnGroupAndItsExitIsReported(t *testing.T) {
	var out bytes.Buffer
	cmd := exec.Command("sh", "-c", "cut -d' ' -f1,5 /proc/$$/stat; exit 3")
	cmd.Stdout = &out
	err := Run(t.Context(), cmd, time.Second)
	if cmd.ProcessState.ExitCode() != 3 || err == nil {
		t.Errorf("ended %v, exit code %d; want 3", err, cmd.ProcessState.ExitCode())
	}
	if f := strings.Fields(out.String()); len(f) != 2 || f[0] != f[1] {
		t.Errorf("process and group %q; want the same", out.String())
	}
	if err := Run(t.Context(), exec.Command("/nonexistent/kops"), time.Second); err == nil {
		t.Error("what is not there was run")
	}
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
