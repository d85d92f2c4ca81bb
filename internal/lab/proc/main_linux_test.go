package proc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/proc"
)

// roleVar makes the test binary play a child instead of running tests.
const roleVar = "MUSTER_PROC_TEST_ROLE"

// graceTimer bounds every wait of these tests; none should come near it.
const graceTimer = 10 * time.Second

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	// A child that a broken test forgets must not live for ever.
	time.AfterFunc(time.Minute, func() { os.Exit(99) })
	play, known := roles[role]
	if !known {
		fmt.Println("unknown role", role)
		os.Exit(98)
	}
	os.Exit(play())
}

// roles are the children. Each returns its exit status.
var roles = map[string]func() int{
	"sleep":      func() int { fmt.Println("ready"); select {} },
	"fail":       func() int { fmt.Println("first line"); fmt.Fprintln(os.Stderr, "disk is on fire"); return 3 },
	"succeed":    func() int { return 0 },
	"gentle":     func() int { <-awaitTerm(); fmt.Println("goodbye"); return 0 },
	"stubborn":   func() int { term := awaitTerm(); <-term; fmt.Println("no"); select {} },
	"show":       show,
	"burn":       burn,
	"listen":     listen,
	"parent":     parent,
	"supervisor": supervisor,
}

func awaitTerm() <-chan os.Signal {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Println("ready")
	return term
}

// show prints what the child was given.
func show() int {
	dir, _ := os.Getwd()
	group, _ := syscall.Getpgid(0)
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"dir": dir, "args": os.Args[1:], "colour": os.Getenv("COLOUR"), "leads": group == os.Getpid(),
	})
	return 0
}

// burn holds 48 MiB and uses processor time until it is killed.
func burn() int {
	held := make([]byte, 48<<20)
	for n := 0; n < len(held); n += 1024 {
		held[n] = 1
	}
	fmt.Println("ready")
	for n := 0; ; n++ {
		held[n%len(held)]++
	}
}

// listen opens one of each kind of socket and prints the addresses that
// strangers can reach, sorted as the package does.
func listen() int {
	tcp4, err4 := net.Listen("tcp", "127.0.0.1:0")
	tcp6, err6 := net.Listen("tcp", "[::1]:0")
	udp4, errU := net.ListenPacket("udp", "127.0.0.1:0")
	if err4 != nil || err6 != nil || errU != nil {
		fmt.Println(err4, err6, errU)
		return 1
	}
	// Neither of these is a listener: a client's connection, and a UDP socket
	// with a peer.
	client, errC := net.Dial("tcp", tcp4.Addr().String())
	peer, errP := net.Dial("udp", udp4.LocalAddr().String())
	if errC != nil || errP != nil {
		fmt.Println(errC, errP)
		return 1
	}
	defer client.Close()
	defer peer.Close()
	fmt.Printf("tcp %s\ntcp %s\nudp %s\nready\n", tcp4.Addr(), tcp6.Addr(), udp4.LocalAddr())
	select {}
}

// parent starts a child of its own in its own process group, prints the
// child's number and ends when told to.
func parent() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	child, err := os.StartProcess(self, []string{self}, &os.ProcAttr{Env: []string{roleVar + "=sleep"}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("child", child.Pid)
	<-awaitTerm()
	return 0
}

// supervisor runs a supervisor with three children and prints their numbers.
func supervisor() int {
	ctx := context.Background()
	s := proc.New(nil)
	go s.Run(ctx)
	self, err := os.Executable()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for n := range 3 {
		p, err := s.Start(ctx, proc.Spec{
			Name: fmt.Sprintf("grandchild-%d", n), Path: self, Env: []string{roleVar + "=stubborn"},
		})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("child", p.PID())
	}
	fmt.Println("ready")
	select {}
}

// run runs a supervisor until the test ends.
func run(t *testing.T) *proc.Supervisor {
	t.Helper()
	s := proc.New(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(graceTimer):
			t.Error("Run did not return")
		}
	})
	return s
}

// child returns a spec that makes the test binary play a role.
func child(t *testing.T, role string) proc.Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return proc.Spec{
		Name: role, Path: self,
		// Under the race detector a program sleeps a second before it exits, and
		// when coverage is measured it complains if it has nowhere to write it.
		Env:     []string{roleVar + "=" + role, "GORACE=atexit_sleep_ms=0", "GOCOVERDIR=" + t.TempDir()},
		LogFile: filepath.Join(t.TempDir(), role+".log"),
	}
}

func start(t *testing.T, s *proc.Supervisor, spec proc.Spec) *proc.Process {
	t.Helper()
	p, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// awaitLog waits until the process has written a line that begins with prefix
// and returns the log.
func awaitLog(t *testing.T, p *proc.Process, prefix string) string {
	t.Helper()
	var log string
	eventually(t, fmt.Sprintf("%s writes %q", p, prefix), func() bool {
		log = p.Tail(1000)
		return strings.Contains("\n"+log, "\n"+prefix)
	})
	return log
}

// eventually waits until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(graceTimer)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", graceTimer, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// childNumbers returns the process numbers in lines of "child N".
func childNumbers(t *testing.T, log string) []int {
	t.Helper()
	var numbers []int
	for line := range strings.Lines(log) {
		var n int
		if _, err := fmt.Sscanf(line, "child %d", &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// alive tells whether the process exists and is more than a zombie.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
