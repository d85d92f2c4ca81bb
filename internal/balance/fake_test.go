package balance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen at once.
const patience = 20 * time.Second

// set makes the endpoint set of servers known from the overlay, in the order
// given.
func set(t testing.TB, servers ...netip.AddrPort) endpoint.Set {
	t.Helper()
	return mixedSet(t, map[endpoint.Source][]netip.AddrPort{endpoint.Overlay: servers}, nil)
}

// mixedSet makes a set from several sources with some servers down. The order
// among equals is the node's own, so names are tried until it is the one given.
func mixedSet(t testing.TB, said map[endpoint.Source][]netip.AddrPort, down []netip.AddrPort) endpoint.Set {
	t.Helper()
	for i := range 10_000 {
		table := endpoint.NewTable("node-"+string(rune('a'+i%26))+time.Duration(i).String(), netip.Addr{})
		for src, addrs := range said {
			if _, err := table.Replace(src, addrs); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range down {
			table.Observe(a, endpoint.Down)
		}
		s, err := table.Serving()
		if err != nil {
			t.Fatal(err)
		}
		if inOrder(s.Addrs(), said) {
			return s
		}
	}
	t.Fatal("no node has that order")
	return endpoint.Set{}
}

// inOrder reports whether each source's addresses appear in the order said.
func inOrder(got []netip.AddrPort, said map[endpoint.Source][]netip.AddrPort) bool {
	for _, want := range said {
		i := 0
		for _, a := range got {
			for j := range want {
				if want[j] == a {
					if j < i {
						return false
					}
					i = j
				}
			}
		}
	}
	return true
}

// loopback returns an address of its own for each server: ports of addresses
// that nobody connects from cannot be taken while a server is down.
func loopback(i int) string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1:0"
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}), 0).String()
}

// Clients begin with a hello, as those of API servers do, and servers answer it. Both
// are records of TLS, but there is no sense in them.
const (
	hello     = "\x16\x03\x01\x00\x05hello"
	willing   = "\x16" // the start of an answer that will talk
	unwilling = "\x15"
)

// hears reads a client's hello.
func hears(conn net.Conn) error {
	_, err := io.ReadFull(conn, make([]byte, len(hello)))
	return err
}

// echo is a TCP server that can die and come back at the same address. It answers a
// hello with its name, and then whatever it receives.
type echo struct {
	t    testing.TB
	name byte
	addr netip.AddrPort

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newEcho(t testing.TB, i int) *echo {
	t.Helper()
	e := &echo{t: t, name: byte('A' + i), conns: make(map[net.Conn]bool)}
	e.listen(loopback(i))
	e.addr = e.ln.Addr().(*net.TCPAddr).AddrPort()
	t.Cleanup(e.kill)
	return e
}

func (e *echo) listen(addr string) {
	e.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.ln = ln
	e.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns[conn] = true
			e.mu.Unlock()
			e.wg.Go(func() { e.serve(conn) })
		}
	})
}

func (e *echo) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		e.mu.Lock()
		delete(e.conns, conn)
		e.mu.Unlock()
	}()
	if hears(conn) != nil {
		return
	}
	if _, err := conn.Write([]byte{willing[0], e.name}); err == nil {
		io.Copy(conn, conn)
	}
}

// kill closes the listener and every connection, as the end of a process does.
func (e *echo) kill() {
	e.ln.Close()
	e.mu.Lock()
	for conn := range e.conns {
		conn.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}

func (e *echo) restart() { e.listen(e.addr.String()) }

// start runs a balancer until the test ends and returns its address.
func start(t testing.TB, b *balance.Balancer) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return ln.Addr().String()
}

func update(t testing.TB, b *balance.Balancer, s endpoint.Set) {
	t.Helper()
	if err := b.Update(s); err != nil {
		t.Fatal(err)
	}
}

// client is a connection to an echo through the balancer.
type client struct {
	*net.TCPConn
	server byte // the name of the echo
}

// join connects and learns which server answers.
func join(addr string) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, hello)
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil {
		conn.Close()
		return nil, err
	}
	return &client{TCPConn: conn.(*net.TCPConn), server: b[1]}, nil
}

func mustJoin(t testing.TB, addr string) *client {
	t.Helper()
	c, err := join(addr)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// works reports whether a word goes there and back.
func (c *client) works() bool {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("ping")); err != nil {
		return false
	}
	b := make([]byte, 4)
	_, err := io.ReadFull(c, b)
	return err == nil && string(b) == "ping"
}

// ended waits until the connection ends and returns how.
func (c *client) ended(t testing.TB) error {
	t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection lives on (%v)", err)
	}
	return err
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}
