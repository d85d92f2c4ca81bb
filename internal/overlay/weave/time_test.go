package weave

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// inFakeTime runs a node over pipes until the test function returns.
func inFakeTime(t *testing.T, cfg Config, test func(t *testing.T, n *Node, network *pipeNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &pipeNet{}
		ctx, cancel := context.WithCancel(t.Context())
		n := startPiped(t, ctx, network, cfg)
		synctest.Wait()
		test(t, n, network)
		cancel()
	})
}

func startPiped(t *testing.T, ctx context.Context, network *pipeNet, cfg Config) *Node {
	t.Helper()
	cfg.Dial = network.dialer(cfg.Listen.Addr())
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.listen = network.listen
	go func() {
		if err := n.Run(ctx); err != nil {
			t.Errorf("%s: %v", cfg.NodeName, err)
		}
	}()
	return n
}

func pipeAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), DefaultPort)
}

func connectPiped(t *testing.T, network *pipeNet, to netip.AddrPort, own wire.Features) *rawPeer {
	t.Helper()
	conn, err := network.dialer(pipeAddr(200).Addr())(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return shake(t, conn, true, "", own)
}

func TestHeartbeatsAreSentWhateverElseIs(t *testing.T) { // A4
	inFakeTime(t, Config{NodeName: "n", Listen: pipeAddr(1)}, func(t *testing.T, n *Node, network *pipeNet) {
		p := connectPiped(t, network, pipeAddr(1), rawFeatures("raw"))
		beats := make(chan time.Time, 10)
		go func() {
			defer close(beats)
			for {
				frame, err := p.session.Read()
				if err != nil {
					return
				}
				if len(frame) == 1 {
					beats <- time.Now()
				}
			}
		}()
		start := time.Now()
		go func() {
			for range 9 {
				time.Sleep(10 * time.Second)
				if _, err := p.session.Write([]byte{0}); err != nil {
					return
				}
			}
			p.conn.Close()
		}()
		var at []time.Duration
		for b := range beats {
			at = append(at, b.Sub(start))
		}
		if want := []time.Duration{30 * time.Second, 60 * time.Second, 90 * time.Second}; len(at) < 2 || !slices.Equal(at, want[:len(at)]) {
			t.Errorf("heartbeats after %v, want %v", at, want)
		}
	})
}

func TestASilentPeerIsDroppedAfterAMinute(t *testing.T) { // A4
	for _, tc := range []struct {
		name string
		last []byte // what arrives before the silence
	}{
		{"after the handshake", nil},
		{"in the middle of a frame that promises ten megabytes", []byte{0, 0xa0, 0, 0, 1, 2, 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inFakeTime(t, Config{NodeName: "n", Listen: pipeAddr(1)}, func(t *testing.T, n *Node, network *pipeNet) {
				p := connectPiped(t, network, pipeAddr(1), rawFeatures("raw"))
				if tc.last != nil {
					if _, err := p.conn.Write(tc.last); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				for {
					if _, err := p.session.Read(); err != nil {
						break
					}
				}
				if took := time.Since(start); took != idleTimeout {
					t.Errorf("dropped after %v, want %v", took, idleTimeout)
				}
			})
		})
	}
}

func TestAHandshakeThatStallsIsGivenUp(t *testing.T) { // A3
	inFakeTime(t, Config{NodeName: "n", Listen: pipeAddr(1)}, func(t *testing.T, n *Node, network *pipeNet) {
		conn, err := network.dialer(pipeAddr(200).Addr())(t.Context(), pipeAddr(1))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		for err == nil {
			_, err = conn.Read(make([]byte, 100))
		}
		if took := time.Since(start); took != handshakeTimeout {
			t.Errorf("given up after %v, want %v", took, handshakeTimeout)
		}
	})
}

func TestAConnectionAtRestLasts(t *testing.T) {
	inFakeTime(t, Config{NodeName: "a", Listen: pipeAddr(1)}, func(t *testing.T, a *Node, network *pipeNet) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := startPiped(t, ctx, network, Config{NodeName: "b", Listen: pipeAddr(2), Seeds: func(context.Context) ([]netip.AddrPort, error) {
			return []netip.AddrPort{pipeAddr(1)}, nil
		}})
		time.Sleep(10 * time.Second)
		before := versions([]*Node{a, b})
		time.Sleep(time.Hour)
		if after := versions([]*Node{a, b}); a.Stats().Links != 1 || b.Stats().Links != 1 || after["a"] != before["a"] || after["b"] != before["b"] {
			t.Errorf("after an hour: %d and %d connections, records %v, before %v", a.Stats().Links, b.Stats().Links, after, before)
		}
		if err := b.Publish("k", "v"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !a.holds("k", "v") {
			t.Error("a record did not arrive")
		}
	})
}

func TestALeafMakesItsConnectionAgain(t *testing.T) { // A13 (i)
	inFakeTime(t, Config{NodeName: "a", Listen: pipeAddr(1)}, func(t *testing.T, a *Node, network *pipeNet) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cfg := Config{NodeName: "leaf", Leaf: true, Seeds: func(context.Context) ([]netip.AddrPort, error) {
			return []netip.AddrPort{pipeAddr(1)}, nil
		}}
		leaf := startPiped(t, ctx, network, cfg)
		time.Sleep(10 * time.Second)
		first := linkOf(leaf)
		time.Sleep(5*time.Minute - 20*time.Second)
		if got := linkOf(leaf); got != first {
			t.Error("the connection was made again too early")
		}
		time.Sleep(time.Minute)
		if got := linkOf(leaf); got == first || got == nil {
			t.Errorf("after more than five minutes the connection is %v, was %v", got, first)
		}
	})
}

func linkOf(n *Node) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		return l
	}
	return nil
}

func TestSeedsAreAskedForAgain(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		peer bool // there is one to connect with
		want []time.Duration
	}{
		{"after an hour if all is well", nil, true, []time.Duration{0, time.Minute, time.Minute + time.Hour}},
		{"after a minute as long as we are alone", nil, false, []time.Duration{0, time.Minute, 2 * time.Minute}},
		{"after a minute if it fails", errors.New("throttled"), true, []time.Duration{0, time.Minute, 2 * time.Minute}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inFakeTime(t, Config{NodeName: "a", Listen: pipeAddr(1)}, func(t *testing.T, _ *Node, network *pipeNet) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				start := time.Now()
				asked := make(chan time.Duration, 100)
				startPiped(t, ctx, network, Config{NodeName: "b", Listen: pipeAddr(2), Seeds: func(context.Context) ([]netip.AddrPort, error) {
					asked <- time.Since(start)
					if tc.peer {
						return []netip.AddrPort{pipeAddr(1)}, tc.err
					}
					return []netip.AddrPort{pipeAddr(9)}, tc.err
				}})
				for i, want := range tc.want {
					if got := <-asked; got != want {
						t.Errorf("asked for the time number %d after %v, want %v", i, got, want)
					}
				}
			})
		})
	}
}

func TestAnUnansweredDialDoesNotHoldTheOthersUp(t *testing.T) {
	inFakeTime(t, Config{NodeName: "a", Listen: pipeAddr(1)}, func(t *testing.T, a *Node, network *pipeNet) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cfg := Config{NodeName: "b", Listen: pipeAddr(2), Seeds: func(context.Context) ([]netip.AddrPort, error) {
			return []netip.AddrPort{pipeAddr(7), pipeAddr(8), pipeAddr(9), pipeAddr(1)}, nil
		}}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.listen = network.listen
		n.cfg.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			if to != pipeAddr(1) {
				<-ctx.Done() // a machine that is gone does not even refuse
				return nil, ctx.Err()
			}
			return network.dialer(pipeAddr(2).Addr())(ctx, to)
		}
		go func() {
			if err := n.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		if n.Stats().Links != 1 {
			t.Error("not connected a second after the start")
		}
	})
}

func TestAClosedConnectionEndsAtOnce(t *testing.T) {
	var log bytes.Buffer
	cfg := Config{NodeName: "n", Listen: pipeAddr(1), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	inFakeTime(t, cfg, func(t *testing.T, n *Node, network *pipeNet) {
		p := connectPiped(t, network, pipeAddr(1), rawFeatures("other"))
		for { // what greets us has to be read, or the writer would wait for that
			if _, err := p.next(time.Second); err != nil {
				break
			}
		}
		start := time.Now()
		p.conn.Close()
		synctest.Wait()
		if !strings.Contains(log.String(), "up -> down") || time.Since(start) != 0 {
			t.Errorf("the connection has not ended, log:\n%s", log.String())
		}
	})
}
