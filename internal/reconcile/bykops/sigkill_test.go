//go:build unix

package bykops_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/kubetest"
	"github.com/muster-dev/muster/internal/lock"
	"github.com/muster-dev/muster/internal/plan"
	"github.com/muster-dev/muster/internal/reconcile"
	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
	"github.com/muster-dev/muster/internal/reconcile/killtest"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/file"
)

// The variables by which a test's process is told to be one that dies.
const (
	dieIn  = "MUSTER_TEST_DIE_IN"  // a directory with a cluster
	dieAt  = "MUSTER_TEST_DIE_AT"  // the point
	dieRun = "MUSTER_TEST_DIE_RUN" // of the plan
	dieAPI = "MUSTER_TEST_DIE_API" // the cluster's API
)

// TestHelperProcess is not a test but the process that is killed.
func TestHelperProcess(t *testing.T) {
	if os.Getenv(dieIn) == "" {
		return
	}
	st, err := file.Open(os.Getenv(dieIn))
	if err != nil {
		t.Fatal(err)
	}
	at, err := strconv.Atoi(os.Getenv(dieAt))
	if err != nil {
		t.Fatal(err)
	}
	s := scenery(t, st, &kubetest.Server{URL: os.Getenv(dieAPI)}, kopstest.FakeAWS{Store: st})
	r, err := reconcile.Read(t.Context(), st, s.name, os.Getenv(dieRun))
	if err != nil {
		t.Fatal(err)
	}
	fuse := &killtest.Fuse{At: at, Kill: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }}
	result, told, err := s.migrate(r.Plan, fuse)
	if err != nil || result.Ended != reconcile.EndedDone && result.Ended != reconcile.EndedNothing {
		t.Fatalf("ended %+v, %v\n%s", result, err, told)
	}
	fmt.Println("points", fuse.Passed())
}

// inFiles is a scene on the fake AWS that outlives processes, with its plan beside it.
func inFiles(t *testing.T) (s *scene, p kopstest.FakeAWS, f plan.File, dir string) {
	t.Helper()
	dir = t.TempDir()
	st, err := file.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, p = paperIn(t, st, kubetest.Start(t), nil, "")
	s.boot(50 * time.Millisecond)
	s.settle(5)
	f = s.plan(cluster.None)
	data, err := f.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), store.Layout(s.name).Muster("runs", reconcile.RunID(f), "plan.json"), data, store.Absent); err != nil {
		t.Fatal(err)
	}
	s.release(f)
	return s, p, f, dir
}

// process carries the plan out in a process of its own that is killed at a point.
func (s *scene) process(f plan.File, dir string, at int) (points int, killed bool) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), self, "-test.run", "^TestHelperProcess$")
	cmd.Env = append(os.Environ(), dieIn+"="+dir, fmt.Sprint(dieAt, "=", at), dieRun+"="+reconcile.RunID(f), dieAPI+"="+s.kube.URL)
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if ok && status.Signal() == syscall.SIGKILL {
			return 0, true
		}
	}
	if err != nil {
		s.t.Fatalf("process: %v\n%s", err, said)
	}
	if _, after, ok := bytes.Cut(said, []byte("points ")); ok {
		_, _ = fmt.Sscan(string(after), &points) // 0 fails what follows
	}
	return points, false
}

// The same with real processes, real SIGKILLs and files, at a sample of the
// points.
func TestAProcessByKopsThatIsKilledWithSIGKILLEndsLikeOneThatIsNot(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: dozens of migrations in processes of their own take a minute; make test-kills runs them")
	}
	s, p, f, dir := inFiles(t)
	want := unkilled{}
	want.points, _ = s.process(f, dir, 0)
	want.remains, want.story = s.remains(p), s.journal()
	if want.points == 0 {
		t.Fatal("the process that nobody killed did not say how many points it passed")
	}
	stride := want.points/4 + 1
	if everyPoint() {
		stride = want.points/64 + 1
	}
	killings := 0
	for at := stride / 2; at <= want.points; at += stride {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			s, p, f, dir := inFiles(t)
			if _, killed := s.process(f, dir, at); !killed {
				t.Fatal("it was not killed")
			}
			killings++
			if _, err := lock.Break(t.Context(), s.store, reconcile.LockKey(s.name)); err != nil {
				t.Fatal(err)
			}
			s.process(f, dir, 0)
			want.compare(t, s, p, "killed", nil)
		})
	}
	t.Logf("%d of %d points, each in its own process", killings, want.points)
}
