package dual

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
)

func TestProtocolsAreKnownByTheirNamesInKops(t *testing.T) {
	listen := netip.MustParseAddrPort("127.0.0.1:0")
	for _, tc := range []struct {
		protocol string
		want     string // part of the fault; empty for none
	}{
		{"mesh", ""},
		{"memberlist", ""},
		{"", `gossip protocol ""`},
		{"serf", `kOps knows "mesh" and "memberlist"`},
	} {
		t.Run(tc.protocol, func(t *testing.T) {
			side, err := Settings{Protocol: tc.protocol, NodeName: "n", Listen: listen}.Side(nil)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one with %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := New(Config{Primary: side}); err != nil || side.Name != tc.protocol {
				t.Errorf("side %q: %v", side.Name, err)
			}
		})
	}
}

func TestASecretThatMemberlistIgnoresIsWarnedOf(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	if _, err := (Settings{Protocol: Memberlist, Secret: []byte("hunter2")}).Side(logger); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "ignores its secret") || strings.Contains(text, "hunter2") {
		t.Errorf("logged: %s", text)
	}
}

// Two pairs over real sockets, one with the overlays the other way round, as in
// the middle of a move from one to the other.
func TestTwoPairsOnRealSockets(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	mesh1, list1, first := startPair(t, ctx, "first", netip.AddrPort{}, netip.AddrPort{}, false)
	meshAddr, err := mesh1.Addr(ctx)
	if err != nil {
		t.Fatal(err)
	}
	listAddr, err := list1.Addr(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, _, second := startPair(t, ctx, "second", meshAddr, listAddr, true)
	if err := first.Mark(); err != nil {
		t.Fatal(err)
	}
	if err := second.Publish(apiName, addrs("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Pair{first, second} {
		for {
			changed := p.Changed()
			diffs, err := p.Differences()
			marker, _ := get(p.Entries(), legacy.MarkerKey)
			api, _ := get(p.Entries(), apiKey)
			if err == nil && len(diffs) == 0 && marker.Value == legacy.MarkerValue && api.Value == "10.0.0.1" {
				break
			}
			select {
			case <-changed:
			case <-time.After(10 * time.Millisecond): // Synced is no change
			case <-ctx.Done():
				t.Fatalf("marker %+v, api %+v, differences %v, %v", marker, api, diffs, err)
			}
		}
	}
	if err := first.Flush(ctx); err != nil {
		t.Error(err)
	}
}

func startPair(t *testing.T, ctx context.Context, name string, meshSeed, listSeed netip.AddrPort, swapped bool) (*weave.Node, *kopsmemberlist.Node, *Pair) {
	t.Helper()
	listen := netip.MustParseAddrPort("127.0.0.1:0")
	seeds := func(at netip.AddrPort) func(context.Context) ([]netip.AddrPort, error) {
		if !at.IsValid() {
			return nil
		}
		return func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{at}, nil }
	}
	mesh, err := weave.New(weave.Config{NodeName: name, Listen: listen, Seeds: seeds(meshSeed)})
	if err != nil {
		t.Fatal(err)
	}
	list, err := kopsmemberlist.New(kopsmemberlist.Config{Listen: listen, Seeds: seeds(listSeed)})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Primary:   Side{Name: Mesh, Make: func() (Overlay, error) { return mesh, nil }},
		Secondary: Side{Name: Memberlist, Make: func() (Overlay, error) { return list, nil }},
	}
	if swapped {
		cfg.Primary, cfg.Secondary = cfg.Secondary, cfg.Primary
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(runCtx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return mesh, list, p
}
