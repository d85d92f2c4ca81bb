package memberlist

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/fabrictest"
	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

const (
	clusterName = "atlas.k8s.local"
	apiName     = "api.internal.atlas.k8s.local"
)

// Keys as they stand in key files.
var (
	key1 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
	key2 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	key3 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{3}, 16))
)

// cluster is a set of peers on one fabric, under one authority, with one key.
// It lives in a synctest bubble.
type cluster struct {
	t      *testing.T
	fabric *fabrictest.Fabric
	ca     *recordtest.CA
	peers  []*peer
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, fabric: new(fabrictest.Fabric), ca: recordtest.NewCA(t)}
	t.Cleanup(func() {
		// The network goes first, so that farewells among all cost nothing.
		c.fabric.SetCut(func(_, _ netip.AddrPort) bool { return true })
		for _, p := range c.peers {
			if p.cancel != nil {
				p.cancel()
			}
		}
		for _, p := range c.peers {
			p.stop()
		}
		// The bubble fails on goroutines that do not end. Upstream's own last
		// probe and exchange are given the time they take.
		time.Sleep(awarenessMax*probeInterval + 2*streamTimeout)
	})
	return c
}

// addrOf is the address of the nth node: both families.
func addrOf(n int) netip.AddrPort {
	if n%2 == 1 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 14: byte(n >> 8), 15: byte(n)}), DefaultPort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), DefaultPort)
}

// writeKeys writes a key file for one node.
func writeKeys(t testing.TB, path string, keys ...string) {
	t.Helper()
	var b []byte
	for _, k := range keys {
		b = append(b, k+"\n"...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is for a node called name at addr that knows the first three nodes.
func (c *cluster) config(name string, addr netip.AddrPort) Config {
	path := filepath.Join(c.t.TempDir(), "gossip.key")
	writeKeys(c.t, path, key1)
	return Config{
		Cluster:   clusterName,
		Node:      name,
		Bind:      addr,
		Keyring:   path,
		Seeds:     seeds(addrOf(0), addrOf(1), addrOf(2)),
		Verifier:  c.ca.Verifier(clusterName, apiName, "api.atlas.k8s.local"),
		Transport: c.fabric.Open(addr),
	}
}

func seeds(at ...netip.AddrPort) func(context.Context) ([]netip.AddrPort, error) {
	return func(context.Context) ([]netip.AddrPort, error) { return at, nil }
}

// peer is a running overlay.
type peer struct {
	*Overlay
	t      testing.TB
	addr   netip.AddrPort
	id     recordtest.Node
	cancel context.CancelFunc
	done   chan error
}

// start runs an overlay until the test ends or stop is called.
func (c *cluster) start(cfg Config) *peer {
	c.t.Helper()
	o, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	p := &peer{Overlay: o, t: c.t, addr: cfg.Bind, id: c.ca.ControlPlane(c.t, clusterName, cfg.Node), cancel: cancel, done: make(chan error, 1)}
	go func() { p.done <- o.Run(ctx) }()
	c.peers = append(c.peers, p)
	return p
}

// startN starts n nodes, cp-0 and so on.
func (c *cluster) startN(n int) []*peer {
	c.t.Helper()
	for i := range n {
		c.start(c.config(fmt.Sprintf("cp-%d", i), addrOf(i)))
	}
	return c.peers[len(c.peers)-n:]
}

// stop ends the peer as a service manager does and waits for Run.
func (p *peer) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.cancel = nil
	if err := <-p.done; err != nil {
		p.t.Errorf("run of %s: %v", p.cfg.Node, err)
	}
}

// say signs a record of p that lives for a minute; no address withdraws.
func (p *peer) say(at ...string) record.Signed {
	p.t.Helper()
	r := record.Record{Name: apiName, Publisher: p.cfg.Node, Expires: time.Now().Add(time.Minute)}
	held, _ := p.Records().Get(r.Key())
	r.Clock = held.Clock.Next(time.Now())
	for _, a := range at {
		r.Addrs = append(r.Addrs, netip.MustParseAddrPort(a))
	}
	return p.id.Sign(p.t, r)
}

// publish says and publishes.
func (p *peer) publish(at ...string) record.Signed {
	p.t.Helper()
	s := p.say(at...)
	if err := p.Publish(s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// holds reports whether p holds exactly that statement.
func (p *peer) holds(s record.Signed) bool {
	got, ok := p.Records().Get(s.Key())
	return ok && got.Compare(s) == 0
}

// sees reports how p sees the member of that name.
func (p *peer) sees(name string, state State) bool {
	for _, m := range p.Members() {
		if m.Name == name {
			return m.State == state
		}
	}
	return false
}

// all reports whether cond holds for every peer.
func all(peers []*peer, cond func(*peer) bool) bool {
	for _, p := range peers {
		if !cond(p) {
			return false
		}
	}
	return true
}

// until waits for cond, which is to come true within limit, and returns how long
// it took.
func (c *cluster) until(limit time.Duration, what string, cond func() bool) time.Duration {
	c.t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > limit {
			c.t.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// meet waits until all peers see each other.
func (c *cluster) meet(peers []*peer) time.Duration {
	c.t.Helper()
	return c.until(30*time.Second, "all nodes see each other", func() bool {
		return all(peers, func(p *peer) bool { return p.Stats().Members == len(peers) })
	})
}
