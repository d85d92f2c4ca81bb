package weave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const apiKey = "dns/local/A/api.internal.test.k8s.local"

func TestConfigurationsAreChecked(t *testing.T) {
	seeds := func(context.Context) ([]netip.AddrPort, error) { return nil, nil }
	listen := netip.MustParseAddrPort("127.0.0.1:0")
	for _, tc := range []struct {
		name   string
		cfg    Config
		faults []string
	}{
		{"a full participant", Config{NodeName: "a", Listen: listen}, nil},
		{"a leaf", Config{NodeName: "a", Leaf: true, Seeds: seeds}, nil},
		{"nothing", Config{}, []string{"node name", "address to listen on"}},
		{"a leaf without seeds", Config{NodeName: "a", Leaf: true}, []string{"without seeds"}},
		{"an endless name and negative numbers", Config{NodeName: strings.Repeat("n", 2000), Listen: listen, ConnLimit: -1}, []string{"2000 bytes", "negative"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.cfg)
			if (err == nil) != (tc.faults == nil) {
				t.Fatalf("New: %v, want %v", err, tc.faults)
			}
			for _, f := range tc.faults {
				if !strings.Contains(err.Error(), f) {
					t.Errorf("New: %v, want it to mention %q", err, f)
				}
			}
		})
	}
}

func TestPeersExchangeRecords(t *testing.T) {
	lab := newLab(t)
	nodes := lab.mesh(5)
	if err := nodes[4].Publish(apiKey, "10.0.0.4"); err != nil {
		t.Fatal(err)
	}
	arrival(t, nodes, apiKey, "10.0.0.4", 5*time.Second)
	// The same second: a writer that took the bare clock would be ignored.
	if err := nodes[2].Publish(apiKey, "10.0.0.2"); err != nil {
		t.Fatal(err)
	}
	arrival(t, nodes, apiKey, "10.0.0.2", 5*time.Second)
	// A broadcast carries what its sender holds when it goes out, so that one of
	// node-4's that waited may bring the news as well.
	heard, ok := nodes[0].Heard(apiKey)
	writer := heard.From == wire.NameOf("node-2") || heard.From == wire.NameOf("node-4")
	if !ok || heard.Origin && !writer {
		t.Errorf("node-0 heard the record from %+v, want a writer as its origin", heard)
	}
	if err := nodes[0].Delete(apiKey); err != nil {
		t.Fatal(err)
	}
	lab.until(5*time.Second, func() bool {
		return !slices.ContainsFunc(nodes, func(n *Node) bool { return n.holds(apiKey, "10.0.0.2") })
	})
	for _, n := range nodes {
		if r, _ := n.Get(apiKey); !r.Tombstone {
			t.Errorf("%s holds %v, want a tombstone", n.cfg.NodeName, r)
		}
	}
}

func TestAnEmptySecretIsTheSameAsNone(t *testing.T) {
	lab := newLab(t)
	a, _ := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0), Secret: []byte{}})
	b, _ := lab.start(Config{NodeName: "node-1", Listen: lab.addr(1), Seeds: lab.seeds(0)})
	lab.until(time.Minute, func() bool { return joined([]*Node{a, b}, 2) })
}

func TestPeersShowWhoTakesPart(t *testing.T) {
	lab := newLab(t)
	nodes := lab.mesh(3)
	lab.until(10*time.Second, func() bool { return settled(nodes) })
	for _, p := range nodes[0].Peers() {
		if p.Name != wire.NameOf(p.NickName) || p.UID == 0 || !p.Reachable || len(p.Links) != 2 || p.Connected == p.Self {
			t.Errorf("peer %+v", p)
		}
		for _, l := range p.Links {
			if _, err := netip.ParseAddrPort(l.Addr); err != nil || !l.Established {
				t.Errorf("%s claims %+v", p.NickName, l)
			}
		}
	}
}

// A leaf among sixty real peers: its record reaches all of them, no route leads
// through it, and they notice nothing of it coming and going. Package mesh has the
// same in virtual time; how long it takes is for make bench to say.
func TestALeafAmongSixtyPeers(t *testing.T) {
	lab := newLab(t)
	size := 60
	if testing.Short() {
		size = 12 // make test-mesh runs all
	}
	nodes := lab.mesh(size)
	lab.until(time.Minute, func() bool { return settled(nodes) })
	before, linksBefore, statsBefore := versions(nodes), links(nodes), sum(nodes)

	leaf, stop := lab.start(Config{NodeName: "leaf", Leaf: true, Seeds: lab.seeds(0, 1, 2)})
	select {
	case <-leaf.Synced():
	case <-time.After(10 * time.Second):
		t.Fatal("the leaf has heard nothing")
	}
	for i := range 3 {
		value := fmt.Sprintf("10.0.0.%d", i)
		if err := leaf.Publish(apiKey, value); err != nil {
			t.Fatal(err)
		}
		t.Logf("the leaf's record reached all %d after %v", size, arrival(t, nodes, apiKey, value, 20*time.Second))
	}
	lab.until(10*time.Second, func() bool { return leaf.Stats().Links == 3 && len(leaf.Peers()) == size+1 })
	// Who claims no connections can be on the way to nobody.
	for _, n := range nodes {
		for _, p := range n.Peers() {
			if p.NickName == "leaf" && (len(p.Links) > 0 || p.Version > 0) {
				t.Errorf("%s believes that the leaf claims %+v", n.cfg.NodeName, p.Links)
			}
			if slices.ContainsFunc(p.Links, func(l wire.Link) bool { return l.Name == wire.NameOf("leaf") }) {
				t.Errorf("%s believes that %s claims a connection to the leaf", n.cfg.NodeName, p.NickName)
			}
		}
	}
	stop()
	lab.until(5*time.Second, func() bool {
		return !slices.ContainsFunc(nodes[:3], func(n *Node) bool {
			return slices.ContainsFunc(n.Peers(), func(p Peer) bool { return p.NickName == "leaf" && p.Connected })
		})
	})
	if diff := cmp.Diff(before, versions(nodes)); diff != "" {
		t.Errorf("records changed because of a leaf (-before +after):\n%s", diff)
	}
	if after := links(nodes); after != linksBefore {
		t.Errorf("%d ends of connections among the others, were %d", after, linksBefore)
	}
	after := sum(nodes)
	if after.Updates != statsBefore.Updates {
		t.Errorf("%d topology updates with news because of a leaf", after.Updates-statsBefore.Updates)
	}
	if n := after.Collected - statsBefore.Collected; n > 3 { // by its neighbours, in time
		t.Errorf("%d peers collected because of a leaf, want 3 at most", n)
	}
	if err := nodes[size/2].Publish(apiKey, "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	arrival(t, nodes, apiKey, "10.0.0.1", 20*time.Second)
}

// sum adds up what matters of all nodes' numbers.
func sum(nodes []*Node) (total Stats) {
	for _, n := range nodes {
		s := n.Stats()
		total.Updates += s.Updates
		total.Collected += s.Collected
	}
	return total
}

func versions(nodes []*Node) map[string]uint64 {
	v := make(map[string]uint64)
	for _, n := range nodes {
		for _, p := range n.Peers() {
			if p.Self {
				v[p.NickName] = p.Version
			}
		}
	}
	return v
}

// settled reports whether every node has the connections it wants and holds
// every node's newest record.
func settled(nodes []*Node) bool {
	newest := versions(nodes)
	return !slices.ContainsFunc(nodes, func(n *Node) bool {
		return !n.Stats().Settled || slices.ContainsFunc(n.Peers(), func(p Peer) bool { return p.Version != newest[p.NickName] })
	})
}

func TestWhatALeafHasWrittenOutlivesIt(t *testing.T) {
	lab := newLab(t)
	nodes := lab.mesh(3)
	leaf, stop := lab.start(Config{NodeName: "leaf", Leaf: true, Seeds: lab.seeds(1)})
	if err := leaf.Publish(apiKey, "10.0.0.9"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := leaf.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	stop() // at once
	arrival(t, nodes, apiKey, "10.0.0.9", 5*time.Second)
}

func TestFlushSaysWhenNobodyListens(t *testing.T) {
	n, err := New(Config{NodeName: "leaf", Leaf: true, Seeds: func(context.Context) ([]netip.AddrPort, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush without a connection: %v", err)
	}
}

func TestReadTellsWhatAPeerKnows(t *testing.T) {
	lab := newLab(t)
	nodes := lab.mesh(4)
	if err := nodes[3].Publish(apiKey, "10.0.0.3"); err != nil {
		t.Fatal(err)
	}
	arrival(t, nodes, apiKey, "10.0.0.3", 5*time.Second)
	lab.until(time.Minute, func() bool { return settled(nodes) })
	before := versions(nodes)
	got, err := Read(t.Context(), Config{NodeName: "reader"}, lab.addr(1))
	if err != nil {
		t.Fatal(err)
	}
	if got.NickName != "node-1" || len(got.Peers) != 5 || len(got.State) != 1 || got.State[0].Value != "10.0.0.3" {
		t.Errorf("read %+v", got)
	}
	if diff := cmp.Diff(before, versions(nodes)); diff != "" {
		t.Errorf("records changed because of a reader (-before +after):\n%s", diff)
	}
}

func TestReadTellsFaultsApart(t *testing.T) {
	lab := newLab(t)
	node, _ := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0), Secret: []byte("s3cret")})
	if _, err := node.Addr(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		addr netip.AddrPort
		want string
	}{
		{"another secret", Config{NodeName: "reader", Secret: []byte("wrong")}, lab.addr(0), "secret"},
		{"nobody there", Config{NodeName: "reader"}, lab.addr(9), "refused"},
		{"the name of a live peer", Config{NodeName: "node-0", Secret: []byte("s3cret")}, lab.addr(0), "node name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Read(t.Context(), tc.cfg, tc.addr)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("Read: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestRunSaysWhenItCannotListen(t *testing.T) {
	lab := newLab(t)
	first, _ := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0)})
	if _, err := first.Addr(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := New(Config{NodeName: "node-1", Listen: lab.addr(0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Run on a taken port: %v", err)
	}
	if err := second.Run(t.Context()); err == nil {
		t.Error("Run can be called twice")
	}
}

func TestTheSecretIsNotLogged(t *testing.T) {
	lab := newLab(t)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, stopA := lab.start(Config{NodeName: "node-0", Listen: lab.addr(0), Secret: []byte("hush"), Logger: logger})
	b, stopB := lab.start(Config{NodeName: "node-1", Listen: lab.addr(1), Seeds: lab.seeds(0), Secret: []byte("hush")})
	lab.until(time.Minute, func() bool { return joined([]*Node{a, b}, 2) })
	stopB()
	lab.until(time.Minute, func() bool { return a.Stats().Links == 0 })
	stopA()
	for _, want := range []string{"alone -> connected", "connected -> alone", "overlay=weave"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if strings.Contains(log.String(), "hush") {
		t.Error("the log contains the secret")
	}
}

func TestABurstOfWritesArrives(t *testing.T) {
	lab := newLab(t)
	nodes := lab.mesh(4)
	want := make(map[string]string)
	for i := range 500 {
		n := i % 50 // each key has one writer, or two may use one version
		key := fmt.Sprintf("dns/local/A/n%d.test.k8s.local", n)
		want[key] = fmt.Sprintf("10.0.%d.%d", i/250, i%250)
		if err := nodes[n%4].Publish(key, want[key]); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range want {
		arrival(t, nodes, key, value, 5*time.Second)
	}
	for _, n := range nodes {
		if diff := cmp.Diff(want, values(n.State())); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", n.cfg.NodeName, diff)
		}
	}
}

func values(entries []legacy.Entry) map[string]string {
	m := make(map[string]string)
	for _, e := range entries {
		m[e.Key] = e.Value
	}
	return m
}
