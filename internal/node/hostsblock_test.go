package node

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
)

// What a predecessor wrote is right until more is known than that servers were
// configured.
func TestTheBlockOfAnEarlierLifeStaysUntilTheServersAreChecked(t *testing.T) {
	const name = "api.internal"
	a, b := netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.2:6443")
	block := "127.0.0.1 localhost\n# Begin host entries managed by kops - do not edit\n10.0.0.1\tapi.internal.home.example\n# End host entries managed by kops\n"
	for _, tt := range []struct {
		name, content string
		checked       map[netip.AddrPort]endpoint.Health // after a second
		want          time.Duration
	}{
		{"no block yet", "127.0.0.1 localhost\n", nil, 0},
		{"a block of other names", "# Begin host entries managed by kops - do not edit\n10.0.0.1\twww.home.example\n# End host entries managed by kops\n", nil, 0},
		{"a block, and every server is checked", block, map[netip.AddrPort]endpoint.Health{a: endpoint.Up, b: endpoint.Down}, time.Second},
		{"a block, and one server is not checked", block, map[netip.AddrPort]endpoint.Health{a: endpoint.Up}, settleAtMost},
		{"a block, and nothing can be checked", block, nil, settleAtMost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "hosts")
			if err := os.WriteFile(path, []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			fixture := newAwaiting(t)
			cfg := fixture.load()
			cfg.Hosts.Path = path
			synctest.Test(t, func(t *testing.T) {
				n, err := New(cfg, Options{Program: "muster-agent"})
				if err != nil {
					t.Fatal(err)
				}
				close(n.adopted)
				n.view.learn(name, endpoint.Boot, []netip.AddrPort{a, b})
				began := time.Now()
				done := make(chan error, 1)
				go func() { done <- n.settle(context.Background()) }()
				time.Sleep(time.Second)
				results := make(map[netip.AddrPort]health.Result)
				for addr, h := range tt.checked {
					results[addr] = health.Result{Health: h}
				}
				n.view.observe(name, results)
				<-n.settled
				took := time.Since(began).Truncate(time.Second)
				if tt.want == 0 {
					took -= time.Second // which the test slept
				}
				if err := <-done; err != nil || took != tt.want {
					t.Errorf("settled after %v (%v), want %v", took, err, tt.want)
				}
			})
		})
	}
}
