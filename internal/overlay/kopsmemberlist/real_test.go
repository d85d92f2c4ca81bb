package kopsmemberlist

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// loopback starts a member on a real socket and waits until it listens.
func loopback(t *testing.T, seed ...netip.AddrPort) (*peer, netip.AddrPort) {
	t.Helper()
	cfg := Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")}
	if len(seed) > 0 {
		cfg.Seeds = seeds(seed...)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, n)
	t.Cleanup(p.stop)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	addr, err := p.Addr(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p, addr
}

// holdSoon waits until all hold value.
func holdSoon(t *testing.T, peers []*peer, value string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for _, p := range peers {
		for {
			changed := p.Changed()
			if p.holds(apiKey, value) {
				break
			}
			select {
			case <-changed:
			case <-limit:
				t.Fatalf("after 20 s still not held: %s", value)
			}
		}
	}
}

func TestThreeMembersOnRealSockets(t *testing.T) {
	first, at := loopback(t)
	second, _ := loopback(t, at)
	third, _ := loopback(t, at)
	peers := []*peer{first, second, third}
	for _, p := range peers[1:] {
		<-p.Synced()
	}
	first.publish(t, apiKey, "10.0.0.1")
	holdSoon(t, peers, "10.0.0.1")
	second.fill(t)
	second.publish(t, apiKey, "10.0.0.2")
	holdSoon(t, peers, "10.0.0.2")
	third.publish(t, apiKey, "10.0.0.3")
	holdSoon(t, peers, "10.0.0.3")
	if err := first.Flush(t.Context()); err != nil {
		t.Error(err)
	}

	got, err := Read(t.Context(), Config{}, at)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.State(), got.State); diff != "" {
		t.Errorf("read (-held +read):\n%s", diff)
	}
	names := make(map[string]bool)
	for _, m := range got.Members {
		names[m.Name] = m.Status == Alive && m.Addr.IsValid() && m.Incarnation > 0
	}
	for _, p := range peers {
		if !names[p.cfg.NodeName] {
			t.Errorf("members %+v, want %s alive among them", got.Members, p.cfg.NodeName)
		}
	}
	if n := first.Stats().Members; n != 3 || len(got.Members) != 3 {
		t.Errorf("the visit left its mark: %d members, %d read", n, len(got.Members))
	}
}

func TestReadSaysWhatItMet(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer string
		want   string
	}{
		{"a peer of the weave mesh", "weave\x01\x02", "type 119 is not a push/pull"},
		{"an encrypted overlay", "\x0a\x00\x00\x00\x00", ErrEncrypted.Error()},
		{"nothing at all", "", "unexpected EOF"},
		{"a state that does not decode", "\x06\x83\xa4Join\xc2\xa5Nodes\x00\xacUserStateLen\x01\xff", "decode full state"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				b := make([]byte, 100)
				if _, err := far.Read(b); err != nil {
					t.Error(err)
				}
				_, _ = far.Write([]byte(tc.answer)) // the reader may hang up before all is said
			}()
			addr := netip.MustParseAddrPort("10.0.0.1:4000")
			dial := func(context.Context, netip.AddrPort) (net.Conn, error) { return near, nil }
			_, err := Read(t.Context(), Config{Dial: dial}, addr)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), addr.String()) {
				t.Errorf("error %v, want one with %q and the address", err, tc.want)
			}
		})
	}
}

func TestReadGivesUpAtItsDeadline(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go func() { _, _ = far.Read(make([]byte, 100)) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	dial := func(context.Context, netip.AddrPort) (net.Conn, error) { return near, nil }
	if _, err := Read(ctx, Config{Dial: dial}, addrOf(0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestReadReportsTiesWithinOneState(t *testing.T) {
	var b sharedState
	one := legacy.Entry{Key: apiKey, Record: legacy.Record{Value: "10.0.0.1", Version: 5}}
	other := legacy.Entry{Key: apiKey, Record: legacy.Record{Value: "10.0.0.2", Version: 5}}
	for _, e := range []legacy.Entry{one, other} {
		if _, err := b.merge(legacy.Append(nil, e)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]legacy.Tie{{Held: one, Other: other}}, b.tieList()); diff != "" {
		t.Errorf("ties (-want +got):\n%s", diff)
	}
	if _, err := b.merge(legacy.Append(nil, legacy.Entry{Key: apiKey, Record: legacy.Record{Value: "10.0.0.2", Version: 6}})); err != nil {
		t.Fatal(err)
	}
	if ties := b.tieList(); len(ties) != 0 {
		t.Errorf("ties %v after somebody wrote again", ties)
	}
}

func TestRunFailsAtOnce(t *testing.T) {
	p, at := loopback(t)
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "run before") {
		t.Errorf("a second Run: %v", err)
	}
	second, err := New(Config{Listen: at})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("a port in use: %v, want one that names %s", err, at)
	}
}
