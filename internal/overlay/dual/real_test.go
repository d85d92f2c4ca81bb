package dual

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/weave"
)

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
	const otherName = "kops-controller.internal.test.k8s.local"
	if err := first.Publish(otherName, addrs("10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	if err := second.Publish(apiName, addrs("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Pair{first, second} {
		for {
			changed := p.Changed()
			diffs, err := p.Differences()
			other, _ := get(p.Entries(), "dns/local/A/"+otherName)
			api, _ := get(p.Entries(), apiKey)
			if err == nil && len(diffs) == 0 && other.Value == "10.0.0.2" && api.Value == "10.0.0.1" {
				break
			}
			select {
			case <-changed:
			case <-time.After(10 * time.Millisecond): // Synced is no change
			case <-ctx.Done():
				t.Fatalf("other %+v, api %+v, differences %v, %v", other, api, diffs, err)
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
		Primary:   Side{Name: "mesh", Make: func() (Overlay, error) { return mesh, nil }},
		Secondary: Side{Name: "memberlist", Make: func() (Overlay, error) { return list, nil }},
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
