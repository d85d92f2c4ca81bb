package balance_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
)

// KubePrism closes the client's connection when the one server it picked
// refuses; the client must come again.
func TestKubePrismDeadServerCostsNoClientItsConnection(t *testing.T) {
	dead, alive := newEcho(t, 0), newEcho(t, 1)
	dead.kill()
	var reported atomic.Int64
	b := balance.New(balance.Config{OnDialFailure: func(a netip.AddrPort, err error) {
		if a == dead.addr && errors.Is(err, syscall.ECONNREFUSED) {
			reported.Add(1)
		}
	}})
	update(t, b, set(t, dead.addr, alive.addr))
	lb := start(t, b)
	began := time.Now()
	for range 20 {
		if c := mustJoin(t, lb); c.server != alive.name || !c.works() {
			t.Fatalf("joined to %c", c.server)
		}
	}
	// A suspect is dialled last, so it is found out once in 2 s, not 20 times.
	most := 1 + int64(time.Since(began)/(2*time.Second))
	got := reported.Load()
	if got < 1 || got > most {
		t.Errorf("reported %d failed dials, want 1 to %d", got, most)
	}
	if s := b.Stats(); s.Failed != 0 || s.DialFailures != uint64(got) {
		t.Errorf("got %+v, want no failed client and %d failed dials", s, got)
	}
}

// Clients come without pause while one server after the other dies and comes
// back. Each must be served. A server dies between two of them, not in between
// the steps of one: whatever a dying server had accepted dies with it.
func TestServersKilledInTurnFailNoNewConnection(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1), newEcho(t, 2)}
	b := balance.New(balance.Config{})
	update(t, b, set(t, servers[0].addr, servers[1].addr, servers[2].addr))
	lb := start(t, b)

	const clients, workers = 2000, 6
	var dying sync.RWMutex
	var served, failed atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for served.Add(1) <= clients {
				dying.RLock()
				c, err := join(lb)
				dying.RUnlock()
				if err != nil {
					failed.Add(1)
					t.Errorf("client not served: %v", err)
					continue
				}
				c.Close()
			}
		})
	}
	kills := 0
	for i := 0; served.Load() < clients; i++ {
		victim, until := servers[i%len(servers)], served.Load()+100
		dying.Lock()
		victim.kill()
		dying.Unlock()
		kills++
		for served.Load() < min(until, clients) {
			time.Sleep(time.Millisecond)
		}
		victim.restart()
	}
	wg.Wait()
	if kills < 2*len(servers) {
		t.Errorf("only %d kills; the test shows little", kills)
	}
	if got := b.Stats(); got.Failed != 0 || got.DialFailures == 0 {
		t.Errorf("%d clients failed and %d dials; want none and some", got.Failed, got.DialFailures)
	}
	t.Logf("%d clients, %d kills, %d failed dials, %d failed clients", clients, kills, b.Stats().DialFailures, failed.Load())
}

// k3s#9757: connections of an unhealthy server lived on, and clients hung.
// k3s#7193: so did those of a removed one.
func TestK3s9757ConnectionsOfAServerThatLeavesAreClosedAndNoOthers(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1), newEcho(t, 2)}
	addrs := []netip.AddrPort{servers[0].addr, servers[1].addr, servers[2].addr}
	tests := []struct {
		name string
		now  func(*testing.T) endpoint.Set
	}{
		{"removed", func(t *testing.T) endpoint.Set { return set(t, addrs[0], addrs[2]) }},
		{"down", func(t *testing.T) endpoint.Set {
			return mixedSet(t, map[endpoint.Source][]netip.AddrPort{endpoint.Overlay: addrs}, addrs[1:2])
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := balance.New(balance.Config{StaggerDelay: patience})
			update(t, b, set(t, addrs...))
			lb := start(t, b)
			var clients []*client
			for range 9 {
				clients = append(clients, mustJoin(t, lb))
			}
			update(t, b, tt.now(t))
			closed := 0
			for _, c := range clients {
				if c.server != servers[1].name {
					if !c.works() {
						t.Errorf("a connection to %c, which stayed, does not work", c.server)
					}
					continue
				}
				closed++
				if err := c.ended(t); err != io.EOF {
					t.Errorf("ended with %v, want an orderly end", err)
				}
			}
			if closed != 3 {
				t.Errorf("%d connections were on the server, want 3", closed)
			}
			eventually(t, "the server that left is forgotten", func() bool { return len(b.Stats().Servers) == 2 })
		})
	}
}

// k3s#10240: under load the checks of all servers failed, and the balancer cut
// off every connection, all of which worked.
func TestK3s10240NothingIsClosedWhenEverythingLooksDown(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1)}
	addrs := []netip.AddrPort{servers[0].addr, servers[1].addr}
	b := balance.New(balance.Config{})
	update(t, b, set(t, addrs...))
	lb := start(t, b)
	before := []*client{mustJoin(t, lb), mustJoin(t, lb)}

	isolated := mixedSet(t, map[endpoint.Source][]netip.AddrPort{endpoint.Overlay: addrs}, addrs)
	if !isolated.Isolated() {
		t.Fatal("the set is not isolated")
	}
	update(t, b, isolated)
	for _, c := range before {
		if !c.works() {
			t.Errorf("a connection to %c was closed", c.server)
		}
	}
	if c := mustJoin(t, lb); !c.works() {
		t.Error("a new connection does not work")
	}

	// Even what an isolated set has forgotten stays until there is a better one.
	alone := mixedSet(t, map[endpoint.Source][]netip.AddrPort{endpoint.Overlay: addrs[:1]}, addrs[:1])
	update(t, b, alone)
	for _, c := range before {
		if !c.works() {
			t.Errorf("a connection to %c was closed", c.server)
		}
	}
	update(t, b, set(t, addrs[0]))
	for _, c := range before {
		if c.server == servers[1].name {
			c.ended(t)
		} else if !c.works() {
			t.Errorf("a connection to %c, which stayed, was closed", c.server)
		}
	}
}

// k3s#11349: agents whose servers were down in turn, and whose stored list was
// stale, were stuck until the list was deleted by hand.
func TestK3s11349AllDownThenOneUpNeedsNoHelp(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1), newEcho(t, 2)}
	b := balance.New(balance.Config{StaggerDelay: 20 * time.Millisecond, ConnectTimeout: 300 * time.Millisecond})
	update(t, b, set(t, servers[0].addr, servers[1].addr, servers[2].addr))
	lb := start(t, b)
	for _, s := range servers {
		s.kill()
	}
	if _, err := join(lb); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("with every server dead: got %v, want a reset", err)
	}
	if got := b.Stats(); got.Failed != 1 || got.DialFailures != 6 || got.Active != 0 {
		t.Errorf("got %+v; want 1 failed client after each of 3 servers was dialled twice", got)
	}
	for _, s := range servers {
		s.restart()
		if c := mustJoin(t, lb); c.server != s.name {
			t.Errorf("joined to %c, want %c, the only one up", c.server, s.name)
		}
		s.kill()
	}
}

func TestNoSetYetResetsClients(t *testing.T) {
	b := balance.New(balance.Config{})
	lb := start(t, b)
	if _, err := join(lb); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	server := newEcho(t, 0)
	update(t, b, set(t, server.addr))
	mustJoin(t, lb)
}

func TestEmptySetIsRefused(t *testing.T) {
	server := newEcho(t, 0)
	b := balance.New(balance.Config{Name: "api"})
	update(t, b, set(t, server.addr))
	lb := start(t, b)
	c := mustJoin(t, lb)
	if err := b.Update(endpoint.Set{}); !errors.Is(err, endpoint.ErrEmpty) {
		t.Errorf("got %v, want %v", err, endpoint.ErrEmpty)
	}
	if !c.works() || !mustJoin(t, lb).works() {
		t.Error("the last good set did not stay")
	}
}

// Dialling itself, the balancer would accept, dial, accept, until no file
// descriptor is left.
func TestBalancerNeverDialsItself(t *testing.T) {
	b := balance.New(balance.Config{})
	lb := start(t, b)
	server := newEcho(t, 0)
	// The first client makes sure that Run has begun.
	update(t, b, set(t, server.addr))
	mustJoin(t, lb)

	update(t, b, set(t, netip.MustParseAddrPort(lb)))
	if _, err := join(lb); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	if got := b.Stats().Accepted; got != 2 {
		t.Errorf("accepted %d clients, want 2", got)
	}
	update(t, b, set(t, netip.MustParseAddrPort(lb), server.addr))
	mustJoin(t, lb)
}

func TestHalfCloseGoesBothWays(t *testing.T) {
	for _, tt := range []struct {
		name  string
		hello string
		size  int
	}{
		{"a few words after a hello", hello, 100},
		{"in bulk after a hello", hello, 3 << 20},
		{"in bulk without a hello", "", 3 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) { testHalfClose(t, tt.hello, tt.size) })
	}
}

func testHalfClose(t *testing.T, hello string, size int) {
	request := make([]byte, size)
	rand.Read(request)
	request[0] = 0 // no hello
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		if hello != "" {
			if err := hears(conn); err != nil {
				served <- err
				return
			}
			io.WriteString(conn, willing)
		}
		got, err := io.ReadAll(conn) // ends only when the client's end comes through
		if err == nil {
			sum := sha256.Sum256(got)
			_, err = conn.Write(sum[:])
		}
		served <- err
	}()
	b := balance.New(balance.Config{})
	update(t, b, set(t, ln.Addr().(*net.TCPAddr).AddrPort()))
	conn, err := net.Dial("tcp", start(t, b))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	answer := ""
	if hello != "" {
		answer = willing
		io.WriteString(conn, hello)
		if _, err := io.ReadFull(conn, make([]byte, len(willing))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	if want := sha256.Sum256(request); err != nil || string(got) != string(want[:]) {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
	if err := <-served; err != nil {
		t.Errorf("server: %v", err)
	}
	eventually(t, "the books are closed", func() bool { return b.Stats().Active == 0 })
	s := b.Stats()
	// The hello is not counted, for it may be said to several.
	if s.BytesIn != uint64(len(request)) || s.BytesOut != uint64(len(answer)+sha256.Size) {
		t.Errorf("counted %d bytes in and %d out; want %d and %d", s.BytesIn, s.BytesOut, len(request), len(answer)+sha256.Size)
	}
	if s.Servers[0].BytesIn != s.BytesIn || s.Servers[0].BytesOut != s.BytesOut || s.Servers[0].Total != 1 {
		t.Errorf("the server's counters differ: %+v", s.Servers[0])
	}
}

// A reset that arrived as an orderly end would make half an answer look whole.
func TestResetIsPassedOn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b := balance.New(balance.Config{})
	update(t, b, set(t, ln.Addr().(*net.TCPAddr).AddrPort()))
	lb := start(t, b)
	for _, side := range []string{"server", "client"} {
		client, err := net.Dial("tcp", lb)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(client, hello)
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// Once a byte has come through, the dial is over: before that, a reset
		// by the server only makes the balancer dial again.
		client.SetDeadline(time.Now().Add(patience))
		hears(server)
		io.WriteString(server, willing)
		if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		from, to := server, client
		if side == "client" {
			from, to = client, server
		}
		from.(*net.TCPConn).SetLinger(0)
		from.Close()
		to.SetDeadline(time.Now().Add(patience))
		if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reset by the %s: the other side saw %v, want a reset", side, err)
		}
		to.Close()
	}
}

func TestEqualServersShareConnections(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1), newEcho(t, 2)}
	b := balance.New(balance.Config{StaggerDelay: patience})
	update(t, b, set(t, servers[0].addr, servers[1].addr, servers[2].addr))
	lb := start(t, b)
	for range 30 {
		mustJoin(t, lb)
	}
	for i, s := range b.Stats().Servers {
		if s.Active != 10 || s.Addr != servers[i].addr {
			t.Errorf("place %d: %s has %d connections; want %s with 10", i, s.Addr, s.Active, servers[i].addr)
		}
	}
}

func TestServersOnIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("SKIPPED: this machine has no IPv6 loopback: %v", err)
	}
	ln.Close()
	e := &echo{t: t, name: '6', conns: make(map[net.Conn]bool)}
	e.listen("[::1]:0")
	e.addr = e.ln.Addr().(*net.TCPAddr).AddrPort()
	t.Cleanup(e.kill)
	b := balance.New(balance.Config{})
	update(t, b, set(t, e.addr))
	if c := mustJoin(t, start(t, b)); !c.works() {
		t.Error("does not work")
	}
}

func TestShutdownGivesConnectionsAGraceAndThenEnds(t *testing.T) {
	server := newEcho(t, 0)
	const grace = time.Second
	b := balance.New(balance.Config{DrainTimeout: grace})
	update(t, b, set(t, server.addr))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, ln) }()
	c := mustJoin(t, ln.Addr().String())

	began := time.Now()
	cancel()
	eventually(t, "nobody accepts any more", func() bool {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if !c.works() {
		t.Error("the open connection got no grace")
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took < grace {
		t.Errorf("Run returned after %s with a connection open", took)
	}
	if err := c.ended(t); err != io.EOF {
		t.Errorf("ended with %v, want an orderly end", err)
	}
}

func TestShutdownDoesNotWaitWhenNothingIsOpen(t *testing.T) {
	b := balance.New(balance.Config{DrainTimeout: time.Hour})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx, ln); err != nil {
		t.Error(err)
	}
}

// flaky fails to accept some times, then hands out the real listener's clients.
type flaky struct {
	net.Listener
	failures atomic.Int64
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptFailuresDoNotEndTheBalancer(t *testing.T) {
	server := newEcho(t, 0)
	b := balance.New(balance.Config{Name: "api"})
	update(t, b, set(t, server.addr))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: ln}
	f.failures.Store(4)
	done := make(chan error, 1)
	go func() { done <- b.Run(t.Context(), f) }()
	mustJoin(t, ln.Addr().String()).Close()
	ln.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "api") {
		t.Errorf("after the listener was closed: got %v, want an error that names the balancer", err)
	}
}

func TestUpdatesDuringTraffic(t *testing.T) {
	servers := []*echo{newEcho(t, 0), newEcho(t, 1), newEcho(t, 2)}
	all := set(t, servers[0].addr, servers[1].addr, servers[2].addr)
	sets := []endpoint.Set{
		set(t, servers[0].addr), set(t, servers[1].addr), set(t, servers[2].addr, servers[0].addr), all,
		mixedSet(t, map[endpoint.Source][]netip.AddrPort{endpoint.Overlay: {servers[1].addr}}, []netip.AddrPort{servers[1].addr}),
	}
	b := balance.New(balance.Config{})
	update(t, b, all)
	lb := start(t, b)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if c, err := join(lb); err == nil {
					c.Write([]byte("x"))
					c.Close()
				}
				b.Stats()
			}
		})
	}
	var updates sync.WaitGroup
	for i := range 2 {
		updates.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
					update(t, b, sets[n%len(sets)])
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	updates.Wait()
	update(t, b, all)
	for range 3 {
		if !mustJoin(t, lb).works() {
			t.Error("does not work after all the updates")
		}
	}
	if got := b.Stats().Failed; got != 0 {
		t.Errorf("%d clients found no server although one was always up", got)
	}
	eventually(t, "only the members are known", func() bool { return len(b.Stats().Servers) == 3 })
}
