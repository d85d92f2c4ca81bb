package weave

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// meshLab runs peers of this package over real sockets on loopback. Each has an
// address of its own and all have the same port, as the nodes of a cluster do.
type meshLab struct {
	t      testing.TB
	ctx    context.Context
	stop   context.CancelFunc
	group  sync.WaitGroup
	subnet uint16
	port   uint16
	nodes  []*Node
}

var labs atomic.Uint32

func newLab(t testing.TB) *meshLab {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel() // mostly these wait
	}
	// Each lab has addresses of its own: a port that another lab, of this run or of one that has just ended, dialled
	// from may be unusable for a minute (TIME_WAIT).
	lab := &meshLab{t: t, subnet: uint16(128*os.Getpid()) + uint16(2*labs.Add(1))}
	l, err := net.Listen("tcp", lab.addr(0).String())
	if err != nil {
		t.Skipf("needs Linux, where all of 127.0.0.0/8 is local: %v", err)
	}
	lab.port = addrPort(l.Addr()).Port()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lab.ctx, lab.stop = context.WithCancel(context.Background())
	t.Cleanup(lab.close)
	return lab
}

// addr returns the address of node i, of at most 250.
func (lab *meshLab) addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(lab.subnet >> 8), byte(lab.subnet) | 1, byte(i + 1)}), lab.port)
}

func (lab *meshLab) close() {
	lab.stop()
	lab.group.Wait()
}

func (lab *meshLab) seeds(of ...int) func(context.Context) ([]netip.AddrPort, error) {
	var addrs []netip.AddrPort
	for _, i := range of {
		addrs = append(addrs, lab.addr(i))
	}
	return func(context.Context) ([]netip.AddrPort, error) { return addrs, nil }
}

// start runs a peer until the returned function or the end of the test.
func (lab *meshLab) start(cfg Config) (*Node, context.CancelFunc) {
	lab.t.Helper()
	n, err := New(cfg)
	if err != nil {
		lab.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(lab.ctx)
	ended := make(chan struct{})
	lab.group.Go(func() {
		defer close(ended)
		if err := n.Run(ctx); err != nil {
			lab.t.Errorf("%s: %v", cfg.NodeName, err)
		}
	})
	return n, func() { cancel(); <-ended }
}

// mesh starts full participants that seed from the first three.
func (lab *meshLab) mesh(count int) []*Node {
	lab.t.Helper()
	for i := range count {
		n, _ := lab.start(Config{NodeName: fmt.Sprintf("node-%d", i), Listen: lab.addr(i), Seeds: lab.seeds(0, 1, 2)})
		lab.nodes = append(lab.nodes, n)
	}
	lab.until(time.Minute, func() bool { return joined(lab.nodes, count) })
	return lab.nodes
}

// joined reports whether all know count participants and reach each.
func joined(nodes []*Node, count int) bool {
	return !slices.ContainsFunc(nodes, func(n *Node) bool {
		known := 0
		for _, p := range n.Peers() {
			if p.Reachable && len(p.Links) > 0 {
				known++
			}
		}
		return known < count
	})
}

// until polls for a condition that no channel announces.
func (lab *meshLab) until(limit time.Duration, ok func() bool) {
	lab.t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			lab.t.Fatalf("not within %v", limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// arrival waits until every node holds value at key and returns how long the
// last took.
func arrival(t testing.TB, nodes []*Node, key, value string, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, n := range nodes {
		for {
			changed := n.Changed()
			if n.holds(key, value) {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("%s does not hold %q after %v", n.cfg.NodeName, key, limit)
			}
		}
	}
	return time.Since(start)
}

func (n *Node) holds(key, value string) bool {
	r, ok := n.Get(key)
	return ok && r.Value == value && !r.Tombstone
}

// links returns the number of connections of all, each counted at both ends.
func links(nodes []*Node) (sum int) {
	for _, n := range nodes {
		sum += n.Stats().Links
	}
	return sum
}
