package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/netns"
	"github.com/muster-dev/muster/internal/lab/proc"
)

// waitTimeout bounds every wait of these tests; none should come near it.
const waitTimeout = 10 * time.Second

// TestMain makes the test binary the program that runs on lab nodes, too.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(m.Run())
	}
	// A child that a broken test forgets must not live for ever.
	time.AfterFunc(time.Minute, func() { os.Exit(99) })
	err := fmt.Errorf("unknown verb %q", os.Args[1])
	switch args := os.Args[2:]; os.Args[1] {
	case netns.HoldVerb:
		err = netns.HoldMain(args)
	case netns.EnterVerb:
		err = enterOffTheMainThread(args)
	case "serve":
		err = serve()
	case "dial":
		err = dial(args[0])
	case "rename":
		err = os.Rename(args[0], args[1])
	case "watch-hosts":
		err = watchHosts(args[0])
	case "lab":
		err = lab(args[0])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// enterOffTheMainThread enters from the thread where it is hardest: the main
// thread, which has the death signal, is not the one that execs.
func enterOffTheMainThread(args []string) error {
	runtime.LockOSThread() // keeps this goroutine, and so no other, on its thread
	if syscall.Gettid() != os.Getpid() {
		return netns.EnterMain(args)
	}
	failed := make(chan error)
	go func() { failed <- netns.EnterMain(args) }()
	return <-failed
}

// serve greets and then echoes whoever connects to port 7000.
func serve() error {
	listener, err := net.Listen("tcp", ":7000")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			fmt.Fprintf(conn, "hello %s\n", conn.RemoteAddr().(*net.TCPAddr).IP)
			io.Copy(conn, conn)
		}()
	}
}

// dial prints the greeting of a server, then sends it a line whenever it gets a
// signal to by the file of that name, and prints the echo.
func dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
	if err != nil {
		return err
	}
	defer conn.Close()
	greeting, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	fmt.Print(greeting)
	return nil
}

// watchHosts prints ready, and ends when /etc/hosts has the word.
func watchHosts(word string) error {
	fmt.Println("ready")
	for {
		hosts, err := os.ReadFile("/etc/hosts")
		if err != nil {
			return err
		}
		if strings.Contains(string(hosts), word) {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lab runs a network with two nodes and a server on each, and prints the
// numbers of all processes. It waits to be killed.
func lab(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx := context.Background()
	supervisor := proc.New(nil)
	go supervisor.Run(ctx)
	network, err := netns.New(netns.Config{Supervisor: supervisor, Self: self})
	if err != nil {
		return err
	}
	go func() {
		if err := network.Run(ctx); err != nil {
			fmt.Println(err)
		}
	}()
	for _, name := range []string{"a", "b"} {
		node, err := network.AddNode(ctx, netns.NodeSpec{Name: name, HostsFile: filepath.Join(dir, name)})
		if err != nil {
			return err
		}
		log := filepath.Join(dir, name+".log")
		if _, err := supervisor.Start(ctx, proc.Spec{
			Name: name, Path: self, Args: []string{"serve"}, Wrap: node.Wrap, LogFile: log,
		}); err != nil {
			return err
		}
		for {
			if text, _ := os.ReadFile(log); string(text) == "ready\n" {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	for _, p := range supervisor.Processes() {
		fmt.Println("child", p.PID())
	}
	fmt.Println("ready")
	select {}
}

// needRoot skips a test on a machine that cannot make namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	if err := netns.Check(); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
}

// bench is a network under test.
type bench struct {
	*netns.Network
	supervisor *proc.Supervisor
	self       string
	dir        string
}

// newBench runs a network until the test ends.
func newBench(t *testing.T) *bench {
	t.Helper()
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{supervisor: proc.New(nil), self: self, dir: t.TempDir()}
	b.Network, err = netns.New(netns.Config{Supervisor: b.supervisor, Self: self, LogDir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	background(t, "supervisor", b.supervisor.Run)
	background(t, "network", b.Network.Run)
	return b
}

// background runs something until the test ends, before what was started
// earlier ends.
func background(t *testing.T, name string, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: Run returned %v", name, err)
			}
		case <-time.After(waitTimeout):
			t.Errorf("%s: Run did not return", name)
		}
	})
}

// add adds a node.
func (b *bench) add(t *testing.T, name string) *netns.Node {
	t.Helper()
	node, err := b.AddNode(t.Context(), netns.NodeSpec{Name: name, HostsFile: filepath.Join(b.dir, name+".hosts")})
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// start runs the test binary on a node.
func (b *bench) start(t *testing.T, node *netns.Node, args ...string) *proc.Process {
	t.Helper()
	return b.startProgram(t, node, b.self, args...)
}

func (b *bench) startProgram(t *testing.T, node *netns.Node, program string, args ...string) *proc.Process {
	t.Helper()
	log, err := os.CreateTemp(b.dir, "log")
	if err != nil {
		t.Fatal(err)
	}
	log.Close()
	p, err := b.supervisor.Start(t.Context(), proc.Spec{
		Name: args[0] + " on " + node.Name, Path: program, Args: args, LogFile: log.Name(), Wrap: node.Wrap,
		// Under the race detector a program sleeps a second before it exits.
		Env: append(os.Environ(), "GORACE=atexit_sleep_ms=0"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve starts a server on a node and waits until it listens.
func (b *bench) serve(t *testing.T, node *netns.Node) *proc.Process {
	t.Helper()
	p := b.start(t, node, "serve")
	eventually(t, "the server listens", func() bool { return p.Tail(1) == "ready" })
	return p
}

// dial connects from one node to an address and returns what the server says,
// or the client's error.
func (b *bench) dial(t *testing.T, from *netns.Node, address string) (string, error) {
	t.Helper()
	p := b.start(t, from, "dial", address)
	if err := p.Wait(t.Context()); err != nil {
		return "", errors.New(p.Tail(1))
	}
	return p.Tail(1), nil
}

// inNamespace runs a command in the network namespace of a process.
func inNamespace(t *testing.T, p *proc.Process, argv ...string) string {
	t.Helper()
	output, err := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(p.PID()), "-n"}, argv...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, output)
	}
	return string(output)
}

// eventually waits until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitTimeout)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", waitTimeout, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
