package balance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/balance"
	"github.com/muster-dev/muster/internal/endpoint"
)

var (
	first  = netip.MustParseAddrPort("172.20.0.4:443")
	second = netip.MustParseAddrPort("172.20.1.4:443")
	third  = netip.MustParseAddrPort("[2001:db8::4]:443")
)

// wires is a fake of the network between the balancer and the servers, and of
// its listener, for use in a bubble. A server sends its address and ends.
type wires struct {
	clients chan net.Conn
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	fate  map[netip.AddrPort]func(context.Context) error // what a dial does first
	dials []netip.AddrPort
}

func newWires() *wires {
	return &wires{
		clients: make(chan net.Conn),
		closed:  make(chan struct{}),
		fate:    make(map[netip.AddrPort]func(context.Context) error),
	}
}

func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.clients:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wires) Close() error   { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wires) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7443} }

func (w *wires) set(a netip.AddrPort, fate func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fate[a] = fate
}

func (w *wires) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	w.dials = append(w.dials, a)
	fate := w.fate[a]
	w.mu.Unlock()
	if fate != nil {
		if err := fate(ctx); err != nil {
			return nil, err
		}
	}
	near, far := net.Pipe()
	go func() {
		io.WriteString(far, a.String())
		far.Close()
	}()
	return near, nil
}

// hangs is a server that drops every packet.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func refuses(context.Context) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// after is a server that takes that long to connect.
func after(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// join connects a client and returns which server it reached, "" for none, and
// how long that took.
func (w *wires) join() (string, time.Duration) {
	began := time.Now()
	near, far := net.Pipe()
	defer near.Close()
	w.clients <- far
	got, _ := io.ReadAll(near)
	return string(got), time.Since(began)
}

// dialled returns what was dialled since the last call.
func (w *wires) dialled() []netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dials
	w.dials = nil
	return d
}

// bubble runs f with a balancer of the default times.
func bubble(t *testing.T, cfg balance.Config, s func(testing.TB) endpoint.Set, f func(*testing.T, *wires, *balance.Balancer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWires()
		cfg.Dial = w.dial
		if cfg.HelloTimeout == 0 {
			cfg.HelloTimeout = -1 // these clients speak no TLS
		}
		b := balance.New(cfg)
		update(t, b, s(t))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx, w) }()
		f(t, w, b)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func three(t testing.TB) endpoint.Set { return set(t, first, second, third) }

func TestTimeToConnect(t *testing.T) {
	const ms = time.Millisecond
	type fates map[netip.AddrPort]func(context.Context) error
	tests := []struct {
		name   string
		fates  fates
		server string
		took   time.Duration
		dials  int
	}{
		{"all is well: no time and one dial", nil, first.String(), 0, 1},
		{"a server that refuses costs nothing", fates{first: refuses, second: refuses}, third.String(), 0, 3},
		{"a server that hangs costs one stagger delay", fates{first: hangs}, second.String(), 250 * ms, 2},
		{"two that hang cost two", fates{first: hangs, second: hangs}, third.String(), 500 * ms, 3},
		{"after one that hangs, one that refuses costs nothing more", fates{first: hangs, second: refuses}, third.String(), 250 * ms, 3},
		{"a slow server wins if it is first", fates{first: after(300 * ms), second: after(100 * ms)}, first.String(), 300 * ms, 2},
		{"a slow server loses if another is first", fates{first: after(400 * ms), second: after(100 * ms)}, second.String(), 350 * ms, 2},
		{"a server within the stagger delay is the only one dialled", fates{first: after(249 * ms)}, first.String(), 249 * ms, 1},
		// The bubble does not end while a connection is left open.
		{"a loser that connects all the same is closed", fates{
			first:  func(context.Context) error { time.Sleep(300 * ms); return nil },
			second: after(20 * ms),
		}, second.String(), 300 * ms, 2},
		// At 0 and 250 ms, and then every second.
		{"all refuse: everyone again until the connect timeout", fates{first: refuses, second: refuses, third: refuses}, "", 9 * time.Second, 3 * 10},
		// The last of the first round begins at 500 ms and has 2 s, that of the
		// second begins at 3.25 s and has 4 s, and the third round begins at 8.25 s.
		{"all hang: everyone again, with more patience", fates{first: hangs, second: hangs, third: hangs}, "", 9 * time.Second, 3 * 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, balance.Config{}, three, func(t *testing.T, w *wires, b *balance.Balancer) {
				for a, fate := range tt.fates {
					w.set(a, fate)
				}
				server, took := w.join()
				if server != tt.server || took != tt.took {
					t.Errorf("got server %q after %s; want %q after %s", server, took, tt.server, tt.took)
				}
				if got := w.dialled(); len(got) != tt.dials {
					t.Errorf("dialled %v; want %d dials", got, tt.dials)
				}
			})
		})
	}
}

func TestConnectTimeoutBoundsTheSearch(t *testing.T) {
	cfg := balance.Config{ConnectTimeout: 3 * time.Second}
	bubble(t, cfg, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		for _, a := range []netip.AddrPort{first, second, third} {
			w.set(a, hangs)
		}
		if server, took := w.join(); server != "" || took != 3*time.Second {
			t.Errorf("got server %q after %s, want none after 3s", server, took)
		}
	})
}

// A black hole is found out by the first client; those that follow within 2 s
// pay nothing. Then it gets another chance.
func TestServerThatHangsCostsOneClientNotAll(t *testing.T) {
	var mu sync.Mutex
	var reports []string
	cfg := balance.Config{OnDialFailure: func(a netip.AddrPort, err error) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, fmt.Sprint(a, ": ", err))
	}}
	bubble(t, cfg, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		w.set(first, hangs)
		w.join()
		for range 10 {
			synctest.Wait() // the one before has left
			if server, took := w.join(); server != second.String() || took != 0 {
				t.Errorf("within 2 s: got server %q after %s, want %s at once", server, took, second)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if _, took := w.join(); took != 250*time.Millisecond {
			t.Errorf("after 2 s: took %s, want the server to be dialled again", took)
		}
		w.set(first, nil)
		time.Sleep(2 * time.Second)
		if server, took := w.join(); server != first.String() || took != 0 {
			t.Errorf("once it answers: got server %q after %s, want %s at once", server, took, first)
		}
		want := first.String() + ": no answer in 250ms, " + second.String() + " was faster"
		if len(reports) != 2 || reports[0] != want {
			t.Errorf("reported %q, want twice %q", reports, want)
		}
	})
}

// k3s#11319: once on the default server, agents never came back to the others.
func TestK3s11319LoadBalancerServesOnlyWhileNoServerDoes(t *testing.T) {
	mixed := func(t testing.TB) endpoint.Set {
		return mixedSet(t, map[endpoint.Source][]netip.AddrPort{
			endpoint.Overlay:  {first},
			endpoint.Balancer: {second},
		}, nil)
	}
	bubble(t, balance.Config{}, mixed, func(t *testing.T, w *wires, b *balance.Balancer) {
		steps := []struct {
			what string
			fate func(context.Context) error
			wait time.Duration
			want netip.AddrPort
		}{
			{"while the server works", nil, 0, first},
			{"when it refuses", refuses, 0, second},
			{"while it is a suspect", nil, time.Second, second},
			{"when it has another chance", nil, time.Second, first},
		}
		for _, s := range steps {
			w.set(first, s.fate)
			time.Sleep(s.wait)
			for range 5 {
				if server, _ := w.join(); server != s.want.String() {
					t.Errorf("%s: got server %q, want %s", s.what, server, s.want)
				}
			}
		}
	})
}

// A loser that has had no time to connect has done nothing wrong.
func TestLoserOfACloseRaceIsNoSuspect(t *testing.T) {
	bubble(t, balance.Config{}, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		w.set(first, after(300*time.Millisecond))
		w.set(second, after(100*time.Millisecond))
		w.join()
		if got := b.Stats().DialFailures; got != 0 {
			t.Errorf("counted %d failed dials, want none", got)
		}
	})
}

// A thousand clients that each knock at every server would keep one that comes back
// from serving any of them.
func TestDuringAnOutageFewSearchAndAllAreJoinedOnceOneHasFound(t *testing.T) {
	const clients = 200
	bubble(t, balance.Config{}, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		for _, a := range []netip.AddrPort{first, second, third} {
			w.set(a, refuses)
		}
		go w.join() // finds out that there is an outage
		synctest.Wait()
		w.dialled()
		joined := make(chan string, clients)
		began := time.Now()
		for range clients {
			go func() {
				server, _ := w.join()
				joined <- server
			}()
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		// Sixteen of them, and each at most once a second.
		if got, most := len(w.dialled()), 3*16*5; got > most {
			t.Errorf("%d dials in 4 s, want at most %d", got, most)
		}
		w.set(third, nil)
		for range clients {
			if got := <-joined; got != third.String() {
				t.Fatalf("joined to %q, want %s", got, third)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the last was joined after %s, want at most a second after the server's return", took)
		}
	})
}

func TestAnOutageIsSaidOnceHoweverManyClientsFeelIt(t *testing.T) {
	var log bytes.Buffer
	cfg := balance.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	bubble(t, cfg, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		for _, a := range []netip.AddrPort{first, second, third} {
			w.set(a, refuses)
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { w.join() })
		}
		time.Sleep(3 * time.Second)
		w.set(second, nil)
		all.Wait()
		for _, what := range []string{"no server can be reached; clients wait", "a server can be reached again"} {
			if got := strings.Count(log.String(), what); got != 1 {
				t.Errorf("%q stands in the log %d times, want once:\n%s", what, got, log.String())
			}
		}
	})
}

// Dials under way count as load: a burst must not all go to a server that hangs.
func TestBurstIsSpreadWhileDialsHang(t *testing.T) {
	bubble(t, balance.Config{}, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		for _, a := range []netip.AddrPort{first, second, third} {
			w.set(a, after(100*time.Millisecond))
		}
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() { w.join() })
			synctest.Wait()
		}
		wg.Wait()
		count := make(map[netip.AddrPort]int)
		for _, a := range w.dialled() {
			count[a]++
		}
		if count[first] != 10 || count[second] != 10 || count[third] != 10 {
			t.Errorf("dialled %v, want 10 each", count)
		}
	})
}

func TestServerThatLeavesWhileItIsDialledIsNotUsed(t *testing.T) {
	bubble(t, balance.Config{}, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		w.set(first, func(context.Context) error {
			update(t, b, set(t, second, third))
			return nil
		})
		if server, took := w.join(); server != second.String() || took != 0 {
			t.Errorf("got server %q after %s, want %s at once", server, took, second)
		}
	})
}

func TestShutdownGivesUpDialsAndBlamesNobody(t *testing.T) {
	var log bytes.Buffer
	cfg := balance.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	bubble(t, cfg, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		w.set(first, hangs)
		client, far := net.Pipe()
		w.clients <- far
		synctest.Wait()
		began := time.Now()
		t.Cleanup(func() {
			if took := time.Since(began); took != 0 {
				t.Errorf("the end took %s, want none", took)
			}
			if got := b.Stats(); got.DialFailures != 0 || got.Failed != 0 {
				t.Errorf("got %+v, want no failures", got)
			}
			if strings.Contains(log.String(), "WARN") || strings.Contains(log.String(), "ERROR") {
				t.Errorf("logged:\n%s", log.String())
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("client: got %v, want an end", err)
			}
		})
	})
}

func TestListenerClosedByOthersEndsTheBalancerLikeAShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires()
		b := balance.New(balance.Config{Dial: w.dial, HelloTimeout: -1})
		update(t, b, three(t))
		w.set(first, hangs)
		done := make(chan error)
		go func() { done <- b.Run(t.Context(), w) }()
		client, far := net.Pipe()
		defer client.Close()
		w.clients <- far
		synctest.Wait()
		began := time.Now()
		w.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, net.ErrClosed)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the end took %s with only a dial under way, want none", took)
		}
	})
}

// What changes is logged when it changes, not with every client (k3s#11329).
func TestK3s11329ChangesOfStateAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	cfg := balance.Config{Name: "api", Logger: slog.New(slog.NewTextHandler(&log, nil))}
	bubble(t, cfg, three, func(t *testing.T, w *wires, b *balance.Balancer) {
		for _, a := range []netip.AddrPort{first, second, third} {
			w.set(a, refuses)
		}
		for range 20 {
			w.join()
		}
		for _, a := range []netip.AddrPort{first, second, third} {
			w.set(a, nil)
		}
		for range 20 {
			time.Sleep(3 * time.Second)
			w.join()
		}
		synctest.Wait()
		update(t, b, three(t))
		update(t, b, set(t, second))
	})
	for _, want := range []struct {
		text string
		n    int
	}{
		{`from=reachable to=suspect reason="connection refused"`, 3},
		{"from=suspect to=reachable", 1}, // the other two are not dialled: the first one answers
		{"no server can be reached", 1},
		{"a server can be reached again", 1},
		{"servers changed", 2},
		{"balancer=api", 8},
	} {
		if got := strings.Count(log.String(), want.text); got != want.n {
			t.Errorf("%q: logged %d times, want %d", want.text, got, want.n)
		}
	}
	if t.Failed() {
		t.Log(log.String())
	}
}
