package memberlist

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/record/recordtest"
)

// untilReal waits for cond in real time.
func untilReal(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("after 20 s still not: %s", what)
		}
	}
}

// Three nodes over real sockets: they meet, hear of a record, hear of its
// withdrawal before its publisher is gone, and take a new key from their files.
func TestThreeNodesOnRealSockets(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run("on "+host, func(t *testing.T) {
			t.Parallel()
			ca := recordtest.NewCA(t)
			var peers []*peer
			var first netip.AddrPort
			for i := range 3 {
				cfg := loopback(t, ca, host, fmt.Sprintf("cp-%d", i))
				if i > 0 {
					cfg.Seeds = seeds(first)
				}
				o, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				p := &peer{Overlay: o, t: t, id: ca.ControlPlane(t, clusterName, cfg.Node), cancel: cancel, done: make(chan error, 1)}
				go func() { p.done <- o.Run(ctx) }()
				t.Cleanup(p.stop)
				peers = append(peers, p)
				untilReal(t, "the node listens", func() bool {
					select {
					case err := <-p.done:
						if host == "::1" && errors.Is(err, syscall.EADDRNOTAVAIL) {
							t.Skipf("this machine has no ::1: %v", err)
						}
						t.Fatal(err)
					default:
					}
					return len(o.Members()) > 0
				})
				if i == 0 {
					first = o.Members()[0].Addr
				}
			}
			untilReal(t, "all see all", func() bool {
				return all(peers, func(p *peer) bool { return p.Stats().Members == 3 })
			})
			for _, m := range peers[0].Members() {
				if m.Addr.Addr() != netip.MustParseAddr(host) || m.Addr.Port() == 0 {
					t.Errorf("%s is at %s, want a port of %s", m.Name, m.Addr, host)
				}
			}
			said := peers[2].publish("172.20.0.4:443", "[fd00::4]:443")
			untilReal(t, "all hold the record", func() bool { return all(peers, func(p *peer) bool { return p.holds(said) }) })

			for _, keys := range [][]string{{key1, key2}, {key2, key1}, {key2}} {
				for _, p := range peers {
					writeKeys(t, p.cfg.Keyring, keys...)
				}
				first, err := base64.StdEncoding.DecodeString(keys[0])
				if err != nil {
					t.Fatal(err)
				}
				untilReal(t, "all have the keys", func() bool {
					return all(peers, func(p *peer) bool {
						held := p.keys.ring.GetKeys()
						return len(held) == len(keys) && bytes.Equal(held[0], first)
					})
				})
			}
			withdrawn := peers[2].publish()
			start := time.Now()
			peers[2].stop()
			t.Logf("Run returned %v after its context ended", time.Since(start).Round(time.Millisecond))
			untilReal(t, "the others know of the withdrawal and the leave", func() bool {
				return all(peers[:2], func(p *peer) bool { return p.holds(withdrawn) && p.sees("cp-2", Gone) })
			})
		})
	}
}

func TestRunFailsAtOnce(t *testing.T) {
	ca := recordtest.NewCA(t)
	holder, err := New(loopback(t, ca, "127.0.0.1", "cp-0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- holder.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	untilReal(t, "the first node listens", func() bool { return len(holder.Members()) > 0 })

	if err := holder.Run(ctx); err == nil || !strings.Contains(err.Error(), "runs once") {
		t.Errorf("a second Run: got error %v", err)
	}
	cfg := loopback(t, ca, "127.0.0.1", "cp-1")
	cfg.Bind = holder.Members()[0].Addr
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(ctx); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), cfg.Bind.String()) {
		t.Errorf("a port in use: got error %v, want one that names %s", err, cfg.Bind)
	}
}
