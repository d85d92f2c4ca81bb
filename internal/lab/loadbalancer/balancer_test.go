package loadbalancer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/loadbalancer"
)

// waitTimeout bounds every wait of these tests; none should come near it.
const waitTimeout = 10 * time.Second

// bench is a balancer under test.
type bench struct {
	dir      string
	settings loadbalancer.Settings
	writes   int
}

func (b *bench) file() string   { return filepath.Join(b.dir, "lb.json") }
func (b *bench) socket() string { return filepath.Join(b.dir, "lb.sock") }

// run runs a balancer with the listeners until the test ends.
func run(t *testing.T, listeners ...loadbalancer.Listener) *bench {
	t.Helper()
	b := &bench{dir: shortDir(t), settings: loadbalancer.Settings{
		Interval:  loadbalancer.Duration(10 * time.Millisecond),
		Timeout:   loadbalancer.Duration(5 * time.Second),
		Listeners: listeners,
	}}
	b.write(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- loadbalancer.Run(ctx, loadbalancer.Config{SettingsFile: b.file(), StatusSocket: b.socket()})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(waitTimeout):
			t.Error("Run did not return")
		}
	})
	b.await(t)
	return b
}

// write writes the settings under a new revision.
func (b *bench) write(t *testing.T) {
	t.Helper()
	b.writes++
	b.settings.Revision = fmt.Sprint(b.writes)
	if err := loadbalancer.WriteSettings(b.file(), b.settings); err != nil {
		t.Fatal(err)
	}
}

// await waits until the settings last written are in force.
func (b *bench) await(t *testing.T) loadbalancer.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	status, err := loadbalancer.AwaitRevision(ctx, b.socket(), b.settings.Revision)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// apply writes the settings and waits until they are in force.
func (b *bench) apply(t *testing.T, listeners ...loadbalancer.Listener) loadbalancer.Status {
	t.Helper()
	b.settings.Listeners = listeners
	b.write(t)
	return b.await(t)
}

func (b *bench) status(t *testing.T) loadbalancer.Status {
	t.Helper()
	status, err := loadbalancer.ReadStatus(t.Context(), b.socket())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// awaitStates waits until the targets of the first listener have the states.
func (b *bench) awaitStates(t *testing.T, want ...loadbalancer.State) loadbalancer.ListenerStatus {
	t.Helper()
	var got loadbalancer.ListenerStatus
	eventually(t, fmt.Sprintf("the targets are %v", want), func() bool {
		got = b.status(t).Listeners[0]
		if len(got.Targets) != len(want) {
			return false
		}
		for i, state := range want {
			if got.Targets[i].State != state {
				return false
			}
		}
		return true
	})
	return got
}

// dial connects to the first listener.
func (b *bench) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.status(t).Listeners[0].Address.String(), waitTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(waitTimeout))
	return conn.(*net.TCPConn)
}

// ask connects and returns which target answers. A connection that is lost can
// look so from the first moment on.
func (b *bench) ask(t *testing.T) (string, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.status(t).Listeners[0].Address.String(), waitTimeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(waitTimeout))
	return conversation(conn.(*net.TCPConn), "")
}

// conversation says something to a target and returns the whole answer.
func conversation(conn *net.TCPConn, text string) (string, error) {
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// backend is a target. It greets with its name and then, once the client has
// said all it has to say, repeats that.
type backend struct {
	name     string
	address  netip.AddrPort
	listener net.Listener
}

func newBackend(t *testing.T, name, address string) *backend {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{name: name, listener: listener, address: listener.Addr().(*net.TCPAddr).AddrPort()}
	go b.serve()
	t.Cleanup(b.close)
	return b
}

// close stops taking connections; those that are open stay.
func (b *backend) close() { b.listener.Close() }

func (b *backend) serve() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, b.name); err != nil {
				return
			}
			text, err := io.ReadAll(conn)
			if err == nil && strings.HasPrefix(string(text), "reset") {
				conn.(*net.TCPConn).SetLinger(0)
				return
			}
			conn.Write(text)
		}()
	}
}

// tcpListener is a listener on a free port with TCP checks.
func tcpListener(targets ...netip.AddrPort) loadbalancer.Listener {
	return loadbalancer.Listener{Name: "api", Listen: netip.MustParseAddrPort("127.0.0.1:0"), Targets: targets}
}

// freeAddress returns an address at which nobody answers.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb") // t.TempDir is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
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

func TestConnectionsGoToHealthyTargetsInTurn(t *testing.T) {
	a, b := newBackend(t, "a", "127.0.0.1:0"), newBackend(t, "b", "[::1]:0")
	lb := run(t, tcpListener(a.address, freeAddress(t), b.address))
	lb.awaitStates(t, loadbalancer.Healthy, loadbalancer.Unhealthy, loadbalancer.Healthy)

	got := make(map[string]int)
	for range 20 {
		name, err := lb.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		got[name]++
	}
	if got["a"] != 10 || got["b"] != 10 {
		t.Errorf("20 connections went to %v, want 10 each to a and b", got)
	}
	status := lb.status(t).Listeners[0]
	if status.FailOpen || status.Accepted != 20 || status.Targets[0].Served != 10 || status.Targets[1].Served != 0 {
		t.Errorf("status %+v, want 20 accepted, 10 served by the first target, none by the second", status)
	}
	if status.Targets[1].Reason == "" || status.Targets[0].Reason != "" {
		t.Errorf("status %+v, want a reason for the unhealthy target only", status)
	}
}

func TestALostConnectionIsNotRetried(t *testing.T) {
	well := newBackend(t, "well", "127.0.0.1:0")
	listener := tcpListener(freeAddress(t))
	listener.HealthCheck.Port = well.address.Port() // which says that the target is well
	lb := run(t, listener)
	lb.awaitStates(t, loadbalancer.Healthy)
	listener.Targets = append(listener.Targets, well.address)
	lb.apply(t, listener)
	lb.awaitStates(t, loadbalancer.Healthy, loadbalancer.Healthy)

	var lost, served int
	for range 10 {
		if name, err := lb.ask(t); err == nil && name == "well" {
			served++
		} else {
			lost++
		}
	}
	if served != 5 || lost != 5 {
		t.Errorf("%d connections served and %d lost, want 5 of each", served, lost)
	}
	if got := lb.status(t).Listeners[0].Targets[0].Lost; got != 5 {
		t.Errorf("the status counts %d lost connections, want 5", got)
	}
}

func TestAllTargetsGetConnectionsWhenNoneIsHealthy(t *testing.T) {
	a, b := newBackend(t, "a", "127.0.0.1:0"), newBackend(t, "b", "127.0.0.1:0")
	listener := tcpListener(a.address, b.address)
	listener.HealthCheck.Port = freeAddress(t).Port()
	lb := run(t, listener)
	if status := lb.awaitStates(t, loadbalancer.Unhealthy, loadbalancer.Unhealthy); !status.FailOpen {
		t.Error("the status does not say that the listener fails open")
	}
	got := make(map[string]int)
	for range 10 {
		name, err := lb.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		got[name]++
	}
	if got["a"] != 5 || got["b"] != 5 {
		t.Errorf("10 connections went to %v, want 5 each", got)
	}

	lb.apply(t, tcpListener())
	if _, err := lb.ask(t); err == nil {
		t.Error("a listener without targets answers")
	}
	if lb.status(t).Listeners[0].FailOpen {
		t.Error("a listener without targets claims to fail open")
	}
}

func TestOpenConnectionsEndOnlyWithTheirTarget(t *testing.T) {
	a, b := newBackend(t, "a", "127.0.0.1:0"), newBackend(t, "b", "127.0.0.1:0")
	lb := run(t, tcpListener(a.address))
	lb.awaitStates(t, loadbalancer.Healthy)
	open := func() *net.TCPConn {
		conn := lb.dial(t)
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first, second := open(), open()

	a.close()
	status := lb.awaitStates(t, loadbalancer.Unhealthy)
	if got := status.Targets[0].Active; got != 2 {
		t.Errorf("%d connections are open to the unhealthy target, want 2", got)
	}
	if got, err := conversation(first, "still there?"); err != nil || got != "still there?" {
		t.Errorf("a connection to a target that became unhealthy answers %q, %v", got, err)
	}

	lb.apply(t, tcpListener(b.address))
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection to a target that was removed ends with %v, want a reset", err)
	}
}

func TestEachSideOfAConnectionEndsInItsOwnTime(t *testing.T) {
	a := newBackend(t, "a", "127.0.0.1:0")
	lb := run(t, tcpListener(a.address))
	lb.awaitStates(t, loadbalancer.Healthy)

	// The backend answers only when it has seen the end of what it is sent.
	long := strings.Repeat("0123456789abcdef", 1<<16)
	if got, err := conversation(lb.dial(t), long); err != nil || got != "a"+long {
		t.Errorf("the backend returned %d bytes, %v; want its name and the %d that were sent", len(got), err, len(long))
	}
	if _, err := conversation(lb.dial(t), "reset, please"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset by the target arrives as %v, want a reset", err)
	}
	eventually(t, "no connection is left", func() bool {
		return lb.status(t).Listeners[0].Targets[0].Active == 0
	})
}
