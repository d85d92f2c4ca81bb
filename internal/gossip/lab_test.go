package gossip_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-dev/muster/internal/gossip"
	"github.com/muster-dev/muster/internal/overlay/kopsmemberlist"
	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave"
)

// A probe that is under way when memberlist is shut down ends by its own time-out.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

const (
	clusterName = "test.k8s.local"
	api         = "api.internal." + clusterName
	apiKey      = "dns/local/A/" + api
)

var loopback = gossip.Expect{Cluster: clusterName, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}}

// testTimeout bounds what tests wait for; it is no expectation of speed.
const testTimeout = 30 * time.Second

// weaveLab runs full participants of the weave overlay on loopback.
type weaveLab struct {
	t     *testing.T
	nodes []*weave.Node
	at    []netip.AddrPort
	stops []context.CancelFunc
}

func newWeaveLab(t *testing.T, count int, secret string) *weaveLab {
	t.Helper()
	lab := &weaveLab{t: t}
	for i := range count {
		lab.start(fmt.Sprintf("node-%d", i), secret)
	}
	lab.until(func() bool {
		return !slices.ContainsFunc(lab.nodes, func(n *weave.Node) bool { return count > 1 && !settled(n, count) })
	})
	return lab
}

// settled reports whether n knows the connections that all have.
func settled(n *weave.Node, count int) bool {
	full := 0
	for _, p := range n.Peers() {
		if len(p.Links) == count-1 {
			full++
		}
	}
	return full == count
}

func (lab *weaveLab) start(name, secret string) *weave.Node {
	lab.t.Helper()
	seeds := slices.Clone(lab.at)
	cfg := weave.Config{NodeName: name, Secret: []byte(secret), Listen: netip.MustParseAddrPort("127.0.0.1:0")}
	if len(seeds) > 0 {
		cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) { return seeds, nil }
	}
	node, err := weave.New(cfg)
	if err != nil {
		lab.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			lab.t.Errorf("%s: %v", name, err)
		}
	})
	lab.t.Cleanup(stop)
	addr, err := node.Addr(lab.t.Context())
	if err != nil {
		lab.t.Fatal(err)
	}
	lab.nodes, lab.at, lab.stops = append(lab.nodes, node), append(lab.at, addr), append(lab.stops, stop)
	return node
}

func (lab *weaveLab) until(ok func() bool) {
	lab.t.Helper()
	until(lab.t, ok)
}

// until polls for what no channel announces.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v", testTimeout)
		}
	}
}

func (lab *weaveLab) publish(node int, key, value string) {
	lab.t.Helper()
	if err := lab.nodes[node].Publish(key, value); err != nil {
		lab.t.Fatal(err)
	}
	lab.until(func() bool { return lab.allHold(key, value) })
}

func (lab *weaveLab) allHold(key, value string) bool {
	return !slices.ContainsFunc(lab.nodes, func(n *weave.Node) bool {
		r, ok := n.Get(key)
		return !ok || r.Value != value || r.Tombstone
	})
}

func (lab *weaveLab) reader(secret string) gossip.WeaveReader {
	return gossip.WeaveReader{Config: weave.Config{NodeName: gossip.NodePrefix + "reader", Secret: []byte(secret)}}
}

// side is the lab as a Side that connects through some of its nodes.
func (lab *weaveLab) side(secret string, through ...int) gossip.Side {
	var at []netip.AddrPort
	for _, i := range through {
		at = append(at, lab.at[i])
	}
	return gossip.Side{
		Overlay: gossip.Weave,
		At:      at,
		Reader:  lab.reader(secret),
		NewLeaf: func(at []netip.AddrPort) (gossip.Writer, error) {
			return gossip.NewWeaveLeaf(weave.Config{NodeName: gossip.NodePrefix + "leaf-" + strconv.Itoa(int(at[0].Port())), Secret: []byte(secret)}, at)
		},
	}
}

// memberlistLab runs members of the kops-memberlist overlay on loopback.
type memberlistLab struct {
	t     *testing.T
	nodes []*kopsmemberlist.Node
	at    []netip.AddrPort
}

func newMemberlistLab(t *testing.T, count int) *memberlistLab {
	t.Helper()
	lab := &memberlistLab{t: t}
	for range count {
		cfg := kopsmemberlist.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")}
		if seeds := slices.Clone(lab.at); len(seeds) > 0 {
			cfg.Seeds = func(context.Context) ([]netip.AddrPort, error) { return seeds, nil }
		}
		node, err := kopsmemberlist.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		addr, err := node.Addr(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lab.nodes, lab.at = append(lab.nodes, node), append(lab.at, addr)
	}
	until(t, func() bool {
		return !slices.ContainsFunc(lab.nodes, func(n *kopsmemberlist.Node) bool { return n.Stats().Members < count })
	})
	return lab
}

func (lab *memberlistLab) allHold(key, value string) bool {
	return !slices.ContainsFunc(lab.nodes, func(n *kopsmemberlist.Node) bool {
		r, ok := n.Get(key)
		return !ok || r.Value != value || r.Tombstone
	})
}

func (lab *memberlistLab) side(through ...int) gossip.Side {
	var at []netip.AddrPort
	for _, i := range through {
		at = append(at, lab.at[i])
	}
	return gossip.Side{
		Overlay: gossip.Memberlist,
		At:      at,
		Reader:  gossip.MemberlistReader{},
		NewLeaf: func(at []netip.AddrPort) (gossip.Writer, error) {
			return gossip.NewMemberlistLeaf(nil, at), nil
		},
	}
}

func entry(key, value string, version uint64) legacy.Entry {
	return legacy.Entry{Key: key, Record: legacy.Record{Value: value, Version: version}}
}

func codes(r gossip.Report) (codes []string) {
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// closedPort returns an address where nothing listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}
