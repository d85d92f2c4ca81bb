package protokube

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/hosts"
)

// testNode is a node's directory.
type testNode struct{ dir string }

func newTestNode(t *testing.T) testNode {
	t.Helper()
	m := testNode{t.TempDir()}
	if err := os.WriteFile(m.hosts(), []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m testNode) hosts() string { return filepath.Join(m.dir, "hosts") }

func (m testNode) config(name string) Config {
	return Config{
		Cloud: "metal", Node: name, Cluster: "t.k8s.local",
		Primary:   Gossip{Protocol: Mesh, Listen: netip.MustParseAddrPort("127.0.0.1:3999")},
		Seeds:     []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:0")},
		HostsFile: m.hosts(), StateDir: filepath.Join(m.dir, "state"),
	}.withDefaults()
}

// lookup returns the addresses of a name in the block.
func (m testNode) lookup(t *testing.T, name string) (addrs []string) {
	t.Helper()
	content, err := os.ReadFile(m.hosts())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range hosts.Lookup(content, name) {
		addrs = append(addrs, a.String())
	}
	slices.Sort(addrs)
	return addrs
}

// boot runs a daemon over an overlay until the returned function is called.
func (m testNode) boot(t *testing.T, name string, o Overlay) (*daemon, func()) {
	t.Helper()
	return m.bootLogging(t, name, o, slog.DiscardHandler)
}

func (m testNode) bootLogging(t *testing.T, name string, o Overlay, log slog.Handler) (*daemon, func()) {
	t.Helper()
	d, err := newDaemon(m.config(name), func(OverlayConfig) (Overlay, error) { return o, nil }, func(string) {}, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.run(ctx); err != nil {
			t.Error(err)
		}
	})
	return d, func() {
		stop()
		running.Wait()
	}
}

func TestTheBlockHasTheAcceptedAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fabric
		m := newTestNode(t)
		writer := f.join("writer")
		_, stop := m.boot(t, "n1", f.join("n1"))
		defer stop()
		put := func(key, value string) {
			t.Helper()
			if err := writer.Publish(key, value); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		expect := func(when, name string, want ...string) {
			t.Helper()
			if got := m.lookup(t, name); !slices.Equal(got, want) {
				t.Errorf("%s: %s has %v, want %v", when, name, got, want)
			}
		}
		synctest.Wait()
		if r, ok := writer.state.Get("dns/local/NS/local"); !ok || r.Value != "gossip" {
			t.Errorf("zone marker: %+v", r)
		}
		const api = "api.internal.t.k8s.local"
		put("dns/local/A/"+api, "10.0.0.2,10.0.0.1")
		expect("at once", api, "10.0.0.1", "10.0.0.2")
		put("dns/local/A/etcd-a.internal.t.k8s.local", "10.0.0.1")
		expect("another name of the cluster", "etcd-a.internal.t.k8s.local")
		put("dns/local/A/api.internal.other.k8s.local", "10.0.0.1")
		expect("another cluster's name", "api.internal.other.k8s.local")
		put("dns/local/A/"+api, "192.0.2.1")
		expect("outside the networks", api, "10.0.0.1", "10.0.0.2")
		put("dns/local/A/"+api, "")
		expect("empty", api, "10.0.0.1", "10.0.0.2")
		put("dns/local/A/"+api, "10.0.0.3")
		expect("something good again", api, "10.0.0.3")
		put("dns/local/A/kops-controller.internal.t.k8s.local", "10.0.0.3")
		expect("a second name", "kops-controller.internal.t.k8s.local", "10.0.0.3")
		expect("a second name", api, "10.0.0.3")
	})
}

func TestAVersionFromTheFutureIsAcceptedOnceItsTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fabric
		m := newTestNode(t)
		writer := f.join("writer")
		f.now = time.Now().Add(10 * time.Minute)
		if err := writer.Publish(testKey.String(), "10.0.0.1"); err != nil {
			t.Fatal(err)
		}
		f.now = time.Time{}
		d, stop := m.boot(t, "n1", f.join("n1"))
		defer stop()
		time.Sleep(time.Minute)
		if got := m.lookup(t, testName); len(got) != 0 {
			t.Errorf("ten minutes ahead: accepted %v", got)
		}
		if got := d.report().Overlay.Dropped["from the future"]; got != 1 {
			t.Errorf("%d records reported as from the future, want 1", got)
		}
		time.Sleep(10 * time.Minute)
		if got := m.lookup(t, testName); len(got) != 1 {
			t.Errorf("when its time has come: accepted %v", got)
		}
	})
}

// A node that starts without a reachable peer writes the addresses accepted last, also
// into a new hosts file, and reports that it has no peer.
func TestARestartWithoutPeersKeepsTheBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fabric
		m := newTestNode(t)
		writer := f.join("writer")
		if err := writer.Publish(testKey.String(), "10.0.0.1,10.0.0.2"); err != nil {
			t.Fatal(err)
		}
		_, stop := m.boot(t, "n1", f.join("n1"))
		synctest.Wait()
		stop()
		if err := os.WriteFile(m.hosts(), []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		var nobody fabric
		d, stop := m.boot(t, "n1", nobody.join("n1"))
		defer stop()
		synctest.Wait()
		if got := m.lookup(t, testName); len(got) != 2 {
			t.Errorf("after a restart without peers the block says %v", got)
		}
		r := d.report()
		if r.Hosts != "ok" || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "no peer within reach") {
			t.Errorf("hosts %q, problems %q", r.Hosts, r.Problems)
		}
		if len(r.Services) != 3 || r.Services[0].Name != testName || len(r.Services[0].Serving) != 2 {
			t.Errorf("services %+v", r.Services)
		}
	})
}

// A damaged file is no reason not to start.
func TestDamagedSavedAddressesAreIgnored(t *testing.T) {
	m := newTestNode(t)
	cfg := m.config("n1")
	if err := os.MkdirAll(cfg.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "{", "[]", `{"dns/local/A/api.internal.t.k8s.local": 7}`, `{"x": "10.0.0.1"}`, `{"dns/local/A/api.internal.t.k8s.local": "192.0.2.1"}`} {
		if err := os.WriteFile(filepath.Join(cfg.StateDir, "legacy-belief.json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		b := newAddressTable(cfg, slog.New(slog.DiscardHandler))
		if entries, _ := b.hostEntries(); len(entries) != 0 {
			t.Errorf("%q: accepted %v", content, entries)
		}
	}
}

func TestAnOverlayThatCannotRunStopsTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fabric
		o := f.join("n1")
		o.runErr = errors.New("address in use")
		m := newTestNode(t)
		d, err := newDaemon(m.config("n1"), func(OverlayConfig) (Overlay, error) { return o, nil }, func(string) {}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.run(t.Context()); !errors.Is(err, o.runErr) {
			t.Errorf("run returned %v", err)
		}
	})
}

// Such a node has no peer whose state it could wait for.
func TestANodeThatIsItsOwnOnlySeed(t *testing.T) {
	seed := func(all ...string) (seeds []netip.AddrPort) {
		for _, s := range all {
			seeds = append(seeds, netip.AddrPortFrom(netip.MustParseAddr(s), 0))
		}
		return seeds
	}
	cfg := Config{
		Primary: Gossip{Listen: netip.MustParseAddrPort("10.0.0.1:3999")},
		Publish: []Publication{{Addr: netip.MustParseAddrPort("10.0.0.2:443")}},
	}
	for _, tt := range []struct {
		name  string
		seeds []netip.AddrPort
		want  bool
	}{
		{"without seeds", nil, true},
		{"with itself", seed("10.0.0.1", "10.0.0.2"), true},
		{"with another", seed("10.0.0.1", "10.0.0.3"), false},
	} {
		cfg.Seeds = tt.seeds
		if got := cfg.noOtherSeed(t.Context()); got != tt.want {
			t.Errorf("%s: alone is %v", tt.name, got)
		}
	}
	cfg.Seeds, cfg.SeedsFile = nil, filepath.Join(t.TempDir(), "none")
	if cfg.noOtherSeed(t.Context()) {
		t.Error("a seeds file that cannot be read says nothing about who is there")
	}
}
