package bykops_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops"
	"github.com/muster-dev/muster/internal/store/file"
)

// leftIn tells a test's process to run the kops of a directory.
const leftIn = "MUSTER_TEST_LEFT_IN"

// slowKops writes a kops that says what process it is and then does what it is told.
func slowKops(t *testing.T, dir, then string) {
	t.Helper()
	script := "#!/bin/sh\nif [ \"$1\" = version ]; then echo 1.36.2; exit; fi\necho $$ > " + filepath.Join(dir, "new") + "\nmv " + filepath.Join(dir, "new") + " " + filepath.Join(dir, "pid") + "\n" + then + "\n"
	if err := os.WriteFile(filepath.Join(dir, "kops"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

func kopsIn(ctx context.Context, dir string) error {
	k, err := bykops.FindKops(ctx, filepath.Join(dir, "kops"), "file://"+dir)
	if err != nil {
		return err
	}
	return k.Run(ctx, []string{"update"}, func(string) {})
}

// TestTheProcessThatIsKilledUnderKops is no test but that process: it takes the
// lock, as a run does, and runs kops under it.
func TestTheProcessThatIsKilledUnderKops(t *testing.T) {
	dir := os.Getenv(leftIn)
	if dir == "" {
		return
	}
	st, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Acquire(t.Context(), st, reconcile.LockKey("lyra.k8s.local"), "the one that dies", "a test"); err != nil {
		t.Fatal(err)
	}
	t.Fatal(kopsIn(t.Context(), dir))
}

// A muster that is killed takes its kops along, while its lock still keeps others
// away.
func TestKopsEndsWithAProcessThatIsKilled(t *testing.T) {
	dir := t.TempDir()
	slowKops(t, dir, "exec sleep 300")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	muster := exec.CommandContext(t.Context(), self, "-test.run", "^TestTheProcessThatIsKilledUnderKops$")
	muster.Env = append(os.Environ(), leftIn+"="+dir)
	muster.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := muster.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	eventually(t, "kops runs", func() bool {
		data, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		return err == nil && pid > 0
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // by its own number, and only if it is left
	if err := syscall.Kill(muster.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := muster.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	eventually(t, "kops is gone", func() bool { return !lives(pid) })
	st, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lock.Acquire(t.Context(), st, reconcile.LockKey("lyra.k8s.local"), "the next", "a test")
	if held := new(lock.HeldError); !errors.As(err, &held) {
		t.Errorf("the next one gets %v; want that the lock is held", err)
	}
}

// lives reports whether a process runs: one that nobody has waited for does not.
func lives(pid int) bool {
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
