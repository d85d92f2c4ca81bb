package proc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/muster-dev/muster/internal/lab/proc"
)

func TestAChildGetsWhatItsSpecSays(t *testing.T) {
	s := run(t)
	spec := child(t, "show")
	spec.Args = []string{"one", "two words"}
	spec.Env = append(spec.Env, "COLOUR=green")
	spec.Dir = t.TempDir()
	p := start(t, s, spec)
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}

	var got map[string]any
	if err := json.Unmarshal([]byte(p.Tail(1)), &got); err != nil {
		t.Fatalf("log %q: %v", p.Tail(10), err)
	}
	want := map[string]any{"dir": spec.Dir, "args": []any{"one", "two words"}, "colour": "green", "leads": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("child saw (-want +got):\n%s", diff)
	}
}

func TestAWrappedCommandLineIsWhatRuns(t *testing.T) {
	s := run(t)
	spec := child(t, "show")
	spec.Args = []string{"inner"}
	spec.Wrap = func(argv []string) []string { return append([]string{argv[0], "outer"}, argv...) }
	p := start(t, s, spec)
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`"args":["outer",%q,"inner"]`, spec.Path); !strings.Contains(p.Tail(1), want) {
		t.Errorf("child saw %s, want %s", p.Tail(1), want)
	}
}

func TestWaitSaysHowAProcessEnded(t *testing.T) {
	s := run(t)

	p := start(t, s, child(t, "succeed"))
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait for a process that succeeds: %v", err)
	}

	p = start(t, s, child(t, "fail"))
	err := p.Wait(t.Context())
	if err == nil {
		t.Fatal("Wait for a process that fails returned nil")
	}
	want := fmt.Sprintf("fail (pid %d): exit status 3; its log ends with %q", p.PID(), "disk is on fire")
	if err.Error() != want {
		t.Errorf("Wait returned %q, want %q", err, want)
	}
	if got := p.State().ExitCode(); got != 3 {
		t.Errorf("exit code %d, want 3", got)
	}
	if got, want := p.Tail(5), "first line\ndisk is on fire"; got != want {
		t.Errorf("Tail(5) = %q, want %q", got, want)
	}

	p = start(t, s, child(t, "sleep"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait under an ended context returned %v, want context.Canceled", err)
	}
	if p.State() != nil {
		t.Error("State of a running process is not nil")
	}
}

func TestStopIsGentleFirst(t *testing.T) {
	s := run(t)
	p := start(t, s, child(t, "gentle"))
	awaitLog(t, p, "ready")
	if err := p.Stop(t.Context(), graceTimer); err != nil {
		t.Fatal(err)
	}
	if got := p.State().String(); got != "exit status 0" {
		t.Errorf("process ended by %q, want exit status 0", got)
	}
	if got := p.Tail(1); got != "goodbye" {
		t.Errorf("its last word was %q, want goodbye", got)
	}
	if err := p.Stop(t.Context(), 0); err != nil {
		t.Errorf("Stop of an ended process: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("Kill of an ended process: %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal to an ended process: %v, want os.ErrProcessDone", err)
	}
}

func TestStopKillsAProcessThatIgnoresIt(t *testing.T) {
	s := run(t)
	tests := map[string]func(p *proc.Process) error{
		"when its grace is over": func(p *proc.Process) error {
			return p.Stop(t.Context(), 50*time.Millisecond)
		},
		"when the context ends": func(p *proc.Process) error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			return p.Stop(ctx, time.Hour)
		},
	}
	for name, stop := range tests {
		t.Run(name, func(t *testing.T) {
			p := start(t, s, child(t, "stubborn"))
			awaitLog(t, p, "ready")
			if err := stop(p); err != nil {
				t.Fatal(err)
			}
			if got := p.State().String(); got != "signal: killed" {
				t.Errorf("process ended by %q, want signal: killed", got)
			}
		})
	}
}

func TestWhatAProcessStartedEndsWithIt(t *testing.T) {
	s := run(t)
	ends := map[string]func(p *proc.Process) error{
		"when it is killed":      func(p *proc.Process) error { return p.Kill() },
		"when it ends by itself": func(p *proc.Process) error { return p.Signal(syscall.SIGTERM) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := start(t, s, child(t, "parent"))
			grandchildren := childNumbers(t, awaitLog(t, p, "ready"))
			if len(grandchildren) != 1 || !alive(t, grandchildren[0]) {
				t.Fatalf("grandchildren %v, want one that is alive", grandchildren)
			}
			if err := end(p); err != nil {
				t.Fatal(err)
			}
			<-p.Exited()
			if alive(t, grandchildren[0]) {
				t.Error("the grandchild is alive though the process counts as ended")
			}
		})
	}
}

func TestRunLeavesNoProcessBehind(t *testing.T) {
	s := proc.New(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()

	var pids []int
	for _, role := range []string{"stubborn", "sleep", "parent", "gentle"} {
		p := start(t, s, child(t, role))
		pids = append(pids, p.PID())
		pids = append(pids, childNumbers(t, awaitLog(t, p, "ready"))...)
	}
	if got := len(s.Processes()); got != 4 {
		t.Errorf("%d processes supervised, want 4", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if alive(t, pid) {
			t.Errorf("process %d is alive after Run returned", pid)
		}
	}
	if got := s.Processes(); len(got) != 0 {
		t.Errorf("still supervised: %v", got)
	}
	if _, err := s.Start(t.Context(), child(t, "sleep")); !errors.Is(err, proc.ErrStopped) {
		t.Errorf("Start after Run returned %v, want ErrStopped", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a second Run returned nil")
	}
}

func TestChildrenDieWithASupervisorThatIsKilled(t *testing.T) {
	var output bytes.Buffer
	spec := child(t, "supervisor")
	log, err := os.Create(spec.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Path)
	cmd.Env, cmd.Stdout, cmd.Stderr = spec.Env, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, "the supervisor has started its children", func() bool {
		text, err := os.ReadFile(spec.LogFile)
		output.Reset()
		output.Write(text)
		return err == nil && strings.Contains(output.String(), "ready")
	})
	grandchildren := childNumbers(t, output.String())
	if len(grandchildren) != 3 {
		t.Fatalf("grandchildren %v, want three", grandchildren)
	}
	for _, pid := range grandchildren {
		if !alive(t, pid) {
			t.Fatalf("grandchild %d is not alive to begin with", pid)
		}
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	for _, pid := range grandchildren {
		eventually(t, fmt.Sprintf("grandchild %d is gone", pid), func() bool { return !alive(t, pid) })
	}
}

func TestAChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	s := run(t)
	type asked struct {
		process *proc.Process
		thread  int
		err     error
	}
	answer := make(chan asked)
	var ask func()
	ask = func() {
		// Ending a goroutine that is locked to its thread ends the thread, and
		// a child that had been forked on it would get its death signal.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread does not end. While this goroutine holds it the
			// next one has to be on another.
			defer runtime.UnlockOSThread()
			other := make(chan struct{})
			go func() { defer close(other); ask() }()
			<-other
			return
		}
		p, err := s.Start(context.Background(), child(t, "sleep"))
		answer <- asked{p, unix.Gettid(), err}
	}
	go ask()
	got := <-answer
	if got.err != nil {
		t.Fatal(got.err)
	}
	eventually(t, "the thread that asked has ended", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", got.thread))
		return err != nil
	})
	awaitLog(t, got.process, "ready")
	if state := got.process.State(); state != nil {
		t.Errorf("the child ended with the thread: %s", state)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	s := run(t)
	good := child(t, "sleep")
	tests := map[string]struct {
		change func(*proc.Spec)
		want   string
	}{
		"no name and no program": {
			func(s *proc.Spec) { *s = proc.Spec{} },
			"start \"\": the process has no name\nprogram \"\" is not an absolute path",
		},
		"a relative program": {
			func(s *proc.Spec) { s.Path = "muster" },
			`start "sleep": program "muster" is not an absolute path`,
		},
		"a program that is not there": {
			func(s *proc.Spec) { s.Path = "/nonexistent/muster" },
			`start "sleep": fork/exec /nonexistent/muster: no such file or directory`,
		},
		"a log in a directory that is not there": {
			func(s *proc.Spec) { s.LogFile = "/nonexistent/log" },
			`start "sleep": open /nonexistent/log: no such file or directory`,
		},
		"a wrapper that returns nothing": {
			func(s *proc.Spec) { s.Wrap = func([]string) []string { return nil } },
			`start "sleep": the wrapped command line [] does not begin with an absolute path`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := good
			test.change(&spec)
			_, err := s.Start(t.Context(), spec)
			if err == nil || err.Error() != test.want {
				t.Errorf("Start returned %v, want %q", err, test.want)
			}
		})
	}
	if left := s.Processes(); len(left) != 0 {
		t.Errorf("failed starts left %v", left)
	}
}

func TestStartDoesNotWaitLongerThanItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := proc.New(nil).Start(ctx, child(t, "sleep")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Start without Run returned %v, want context.DeadlineExceeded", err)
	}
}

func TestAnIsolatedChildHasItsOwnNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: namespaces need root")
	}
	s := run(t)
	spec := child(t, "sleep")
	spec.Isolate = true
	p := start(t, s, spec)
	awaitLog(t, p, "ready")
	for _, kind := range []string{"net", "mnt"} {
		own, err := os.Readlink(filepath.Join("/proc/self/ns", kind))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID(), kind))
		if err != nil {
			t.Fatal(err)
		}
		if own == theirs {
			t.Errorf("the child shares the %s namespace %s", kind, own)
		}
	}
}
