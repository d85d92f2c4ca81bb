//go:build unix

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/file"
)

// The variables by which a test's process is told to be one that dies.
const (
	dieDir = "MUSTER_TEST_DIE_DIR"
	dieAt  = "MUSTER_TEST_DIE_AT"
)

// TestMain runs a migration in a directory, and dies in it, when it is told to.
func TestMain(m *testing.M) {
	dir := os.Getenv(dieDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	at, err := strconv.Atoi(os.Getenv(dieAt))
	if err == nil {
		err = killableMain(dir, at)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func killableMain(dir string, at int) error {
	ctx := context.Background()
	st, err := file.Open(dir)
	if err != nil {
		return err
	}
	r, err := Current(ctx, st, "atlas.k8s.local")
	if errors.Is(err, ErrNoRun) {
		ids, idErr := Runs(ctx, st, "atlas.k8s.local")
		if idErr != nil {
			return idErr
		}
		r, err = Read(ctx, st, "atlas.k8s.local", ids[0])
	}
	if err != nil {
		return err
	}
	f := &killtest.Fuse{At: at, Kill: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }}
	m := &fakeExecutor{backend: fileBackend(filepath.Join(dir, ".town")), fuse: f}
	result, err := Run(ctx, Config{Plan: r.Plan, Store: killtest.Store{Store: st, Fuse: f}, Executor: m, Owner: "a process that dies"})
	fmt.Println(result.Ended, f.Passed())
	return err
}

// diskScene is a scene that outlives processes.
func diskScene(t *testing.T) (*scene, fileBackend) {
	t.Helper()
	dir := t.TempDir()
	st, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newScene()
	s.store = st
	home := fileBackend(filepath.Join(dir, ".town"))
	if err := home.put(*s.backend.t); err != nil {
		t.Fatal(err)
	}
	data, err := s.plan.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), runKey("atlas.k8s.local", RunID(s.plan), "plan.json"), data, store.Absent); err != nil {
		t.Fatal(err)
	}
	s.release(t)
	return s, home
}

// process runs a migration in a process of its own that is killed at a point.
func process(t *testing.T, home fileBackend, at int) (out string, killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), dieDir+"="+filepath.Dir(string(home)), fmt.Sprint(dieAt, "=", at))
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if killed = ok && status.Signal() == syscall.SIGKILL; !killed {
			t.Fatalf("process: %v\n%s", err, output)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	return string(output), killed
}

// The same with real processes, real SIGKILLs and files: at every point, or in
// short mode at each twentieth.
func TestAProcessThatIsKilledWithSIGKILLEndsLikeOneThatIsNot(t *testing.T) {
	want, home := diskScene(t)
	out, _ := process(t, home, 0)
	var ended string
	var points int
	if _, err := fmt.Sscan(out, &ended, &points); err != nil || ended != EndedDone {
		t.Fatalf("the run that nobody killed said %q: %v", out, err)
	}
	want.settleAt(t, home)
	story := killtest.Story(want.record(t).Entries)
	stride := 20
	if everyPoint() {
		stride = 1
	}
	var killings atomic.Int32
	t.Run("at", func(t *testing.T) {
		for at := 1; at <= points; at += stride {
			t.Run(fmt.Sprint(at), func(t *testing.T) {
				t.Parallel()
				s, home := diskScene(t)
				if _, killed := process(t, home, at); !killed {
					return // the last points come after the end
				}
				killings.Add(1)
				if _, err := lock.Break(t.Context(), s.store, LockKey("atlas.k8s.local")); err != nil {
					t.Fatal(err)
				}
				out, killed := process(t, home, 0)
				var ended string
				if _, err := fmt.Sscan(out, &ended, new(int)); err != nil || killed || ended != EndedDone && ended != EndedNothing {
					t.Fatalf("then it said %q: %v", out, err)
				}
				s.settleAt(t, home)
				sameEnd(t, "killed", story, want, s)
			})
		}
	})
	t.Logf("%d of %d points, each in its own process", killings.Load(), points)
}

// settleAt takes a cluster over from its file.
func (s *scene) settleAt(t *testing.T, home fileBackend) {
	t.Helper()
	at, err := home.look()
	if err != nil {
		t.Fatal(err)
	}
	s.backend = &memoryBackend{t: &at}
}
