package kopsmemberlist

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/overlay/fabrictest"
)

const apiKey = "dns/local/A/api.internal.test.k8s.local"

// lab runs members on a network in memory, in a synctest bubble.
type lab struct {
	t      *testing.T
	fabric fabrictest.Fabric
	peers  []*peer
}

// inLab runs a test in a bubble of its own.
func inLab(t *testing.T, test func(t *testing.T, lab *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lab := &lab{t: t}
		t.Cleanup(lab.close)
		test(t, lab)
	})
}

func (lab *lab) close() {
	// The network goes first, so that farewells among all cost nothing.
	lab.fabric.SetCut(func(_, _ netip.AddrPort) bool { return true })
	for _, p := range lab.peers {
		p.cancel()
	}
	for _, p := range lab.peers {
		<-p.ended
	}
	// Upstream's own last probe and exchange are given the time they take.
	time.Sleep(awarenessMax*probeInterval + 2*streamTimeout)
}

// addrOf is the address of the nth member: both families.
func addrOf(n int) netip.AddrPort {
	if n%2 == 1 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 14: byte(n >> 8), 15: byte(n)}), DefaultPort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), DefaultPort)
}

func seeds(at ...netip.AddrPort) func(context.Context) ([]netip.AddrPort, error) {
	return func(context.Context) ([]netip.AddrPort, error) { return at, nil }
}

// peer is a running member.
type peer struct {
	*Node
	cancel context.CancelFunc
	ended  chan struct{}
}

func (lab *lab) config(n int) Config {
	return Config{Listen: addrOf(n), Seeds: seeds(addrOf(0), addrOf(1), addrOf(2)), Transport: lab.fabric.Open(addrOf(n))}
}

// start runs a member until the test ends or stop is called.
func (lab *lab) start(cfg Config) *peer {
	lab.t.Helper()
	n, err := New(cfg)
	if err != nil {
		lab.t.Fatal(err)
	}
	p := run(lab.t, n)
	lab.peers = append(lab.peers, p)
	return p
}

func run(t testing.TB, n *Node) *peer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{Node: n, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		if err := n.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	return p
}

func (p *peer) stop() {
	p.cancel()
	<-p.ended
}

// startN starts n members, the first at the first address, and waits until all
// see all.
func (lab *lab) startN(n int) []*peer {
	lab.t.Helper()
	for i := range n {
		lab.start(lab.config(i))
	}
	lab.meet(lab.peers)
	return lab.peers
}

func (lab *lab) meet(peers []*peer) time.Duration {
	lab.t.Helper()
	return lab.until(10*time.Minute, "all see each other", func() bool {
		return all(peers, func(p *peer) bool { return p.Stats().Members == len(peers) })
	})
}

// until waits for cond, which is to come true within limit, and returns how long
// it took.
func (lab *lab) until(limit time.Duration, what string, cond func() bool) time.Duration {
	lab.t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > limit {
			lab.t.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func (p *peer) publish(t testing.TB, key, value string) {
	t.Helper()
	if err := p.Publish(key, value); err != nil {
		t.Fatal(err)
	}
}

func (p *peer) holds(key, value string) bool {
	r, ok := p.Get(key)
	return ok && r.Value == value && !r.Tombstone
}

// sees reports whether p sees the one at addr as alive.
func (p *peer) sees(addr netip.AddrPort) bool {
	return slices.ContainsFunc(p.Peers(), func(o Peer) bool { return o.Addr == addr && o.Status == Alive })
}

func all(peers []*peer, cond func(*peer) bool) bool {
	return !slices.ContainsFunc(peers, func(p *peer) bool { return !cond(p) })
}

// fill makes the state of p one that goes over TCP.
func (p *peer) fill(t testing.TB) {
	t.Helper()
	for i := range 10 {
		p.publish(t, fmt.Sprintf("dns/local/A/%s-%d.internal.test.k8s.local", strings.Repeat("node", 10), i), "10.0.0.1")
	}
}
