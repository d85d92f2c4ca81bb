package proc_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/lab/proc"
)

func TestUsageIsWhatTheProcessUses(t *testing.T) {
	s := run(t)
	p := start(t, s, child(t, "burn"))
	awaitLog(t, p, "ready")
	var usage proc.Usage
	eventually(t, "the process has used 50 ms of processor time", func() bool {
		var err error
		if usage, err = p.Usage(); err != nil {
			t.Fatal(err)
		}
		return usage.CPU >= 50*time.Millisecond
	})
	if usage.RSS < 48<<20 || usage.RSS > 512<<20 {
		t.Errorf("resident memory %d, want 48 MiB and a little", usage.RSS)
	}
	if usage.PeakRSS < 48<<20 {
		t.Errorf("peak resident memory %d, want at least 48 MiB", usage.PeakRSS)
	}
	if usage.Threads < 2 {
		t.Errorf("%d threads, want those of a Go program", usage.Threads)
	}

	if err := p.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if usage, err := p.Usage(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Usage of an ended process is %+v, %v; want os.ErrProcessDone", usage, err)
	}
	if usage, err := proc.ReadUsage(p.PID()); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("ReadUsage of an ended process is %+v, %v; want os.ErrProcessDone", usage, err)
	}
}

func TestListenersAreThoseOfTheProcess(t *testing.T) {
	s := run(t)
	listening := start(t, s, child(t, "listen"))
	idle := start(t, s, child(t, "sleep"))
	log := awaitLog(t, listening, "ready")
	awaitLog(t, idle, "ready")

	sockets, err := held(listening.PID())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, socket := range sockets {
		got = append(got, socket.Network+" "+socket.Local.String())
	}
	want := strings.Split(log, "\n")
	if diff := cmp.Diff(want[:3], got); diff != "" {
		t.Errorf("listening sockets (-want +got):\n%s", diff)
	}

	if sockets, err := held(idle.PID()); err != nil || len(sockets) != 0 {
		t.Errorf("Held by a process without sockets: %v, %v", sockets, err)
	}
	around, err := proc.NamespaceListeners(idle.PID())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[proc.Socket]bool)
	for _, socket := range around {
		seen[socket] = true
	}
	for _, socket := range sockets {
		if !seen[socket] {
			t.Errorf("%v is missing among all listeners of the namespace", socket)
		}
	}

	if err := listening.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if sockets, err := held(listening.PID()); err == nil {
		t.Errorf("Held by an ended process are %v, want an error", sockets)
	}
	if sockets, err := proc.NamespaceListeners(listening.PID()); err == nil {
		t.Errorf("NamespaceListeners of an ended process are %v, want an error", sockets)
	}
}

// held returns the listeners of a process.
func held(pid int) ([]proc.Socket, error) {
	all, err := proc.NamespaceListeners(pid)
	if err != nil {
		return nil, err
	}
	return proc.Held(pid, all)
}

func TestExecutableIsTheProgramThatRuns(t *testing.T) {
	s := run(t)
	spec := child(t, "sleep")
	spec.Wrap = func(argv []string) []string { return append([]string{argv[0], "-muster-peer"}, argv[1:]...) }
	p := start(t, s, spec)
	got, err := proc.Executable(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if got != spec.Path {
		t.Errorf("Executable = %q, want %q", got, spec.Path)
	}
}
