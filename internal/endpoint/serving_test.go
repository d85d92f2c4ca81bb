package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// named is what each source names, and down what looks down.
type named map[Source][]string

func tableOf(t *testing.T, s named, down ...string) *Table {
	t.Helper()
	table := NewTable("node-1", netip.Addr{})
	for src, list := range s {
		if _, err := table.Replace(src, addrs(list...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range down {
		table.Observe(netip.MustParseAddrPort(x), Down)
	}
	return table
}

// groups renders a set for comparison where only the order between groups of
// equals is fixed: the order within is the node's own.
func groups(s Set, want [][]string) [][]string {
	got := make([][]string, 0, len(want))
	rest := s.Addrs()
	for _, g := range want {
		n := min(len(g), len(rest))
		var one []string
		for _, x := range rest[:n] {
			one = append(one, x.String())
		}
		slices.Sort(one)
		got = append(got, one)
		rest = rest[n:]
	}
	for _, x := range rest {
		got = append(got, []string{"surplus " + x.String()})
	}
	return got
}

func TestServing(t *testing.T) {
	tests := []struct {
		name         string
		named        named
		down         []string
		want         [][]string // in order; within a group the node's own order
		wantIsolated bool
	}{
		{"one live source serves all it names", named{Overlay: {a, b, c}}, nil, [][]string{{a, b, c}}, false},
		{"both families serve side by side", named{Overlay: {a, a6}}, nil, [][]string{{a, a6}}, false},
		{"live sources add up", named{Overlay: {a}, Stream: {b}, Slice: {c}, Self: {d}}, nil, [][]string{{a, b, c, d}}, false},
		{"a server named twice serves once", named{Overlay: {a, b}, Slice: {a, b}}, nil, [][]string{{a, b}}, false},
		{"a server that looks down is left out", named{Overlay: {a, b, c}}, []string{b}, [][]string{{a, c}}, false},
		{"the balancer comes after live servers", named{Overlay: {a, b}, Balancer: {lb}}, nil, [][]string{{a, b}, {lb}}, false},
		{"a balancer that a live source names too counts as live", named{Overlay: {a, lb}, Balancer: {lb}}, nil, [][]string{{a, lb}}, false},
		{"remembered servers are left out while a live server is up", named{Overlay: {a}, Boot: {b}, Disk: {c}}, nil, [][]string{{a}}, false},
		{"remembered servers are left out though the balancer is down", named{Overlay: {a}, Balancer: {lb}, Disk: {c}}, []string{lb}, [][]string{{a}}, false},
		{"a server that a live source has too counts as live", named{Overlay: {a}, Disk: {a, b}}, nil, [][]string{{a}}, false},
		{"with every live server down the balancer serves, then remembered servers", named{Overlay: {a, b}, Balancer: {lb}, Disk: {c}}, []string{a, b}, [][]string{{lb}, {c}}, false},
		{"remembered servers alone serve", named{Boot: {a, b}}, nil, [][]string{{a, b}}, false},
		{"the balancer alone serves", named{Balancer: {lb}}, nil, [][]string{{lb}}, false},
		{"the balancer comes before remembered servers", named{Balancer: {lb}, Boot: {a}, Disk: {b}}, nil, [][]string{{lb}, {a, b}}, false},
		{"boot and disk are equals", named{Boot: {a}, Disk: {b}}, nil, [][]string{{a, b}}, false},
		{"with everything down everything serves", named{Overlay: {a, b}, Balancer: {lb}, Disk: {c}}, []string{a, b, lb, c}, [][]string{{a, b}, {lb}, {c}}, true},
		{"one address that is down serves all the same", named{Overlay: {a}}, []string{a}, [][]string{{a}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tableOf(t, tt.named, tt.down...).Serving()
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range tt.want {
				slices.Sort(g)
			}
			if diff := cmp.Diff(tt.want, groups(got, tt.want)); diff != "" {
				t.Errorf("serving (-want +got):\n%s", diff)
			}
			if got.Isolated() != tt.wantIsolated {
				t.Errorf("isolated: got %v, want %v", got.Isolated(), tt.wantIsolated)
			}
		})
	}
}

func TestAnEmptyTableServesNothing(t *testing.T) {
	s, err := NewTable("node-1", netip.Addr{}).Serving()
	if !errors.Is(err, ErrEmpty) || s.Len() != 0 {
		t.Errorf("got %d endpoints and error %v, want none and %v", s.Len(), err, ErrEmpty)
	}
}

// When every server seems down at once the fault is more likely on this node,
// so the order that worked last stays as it was.
func TestIsolationKeepsTheLastOrder(t *testing.T) {
	table := tableOf(t, named{Overlay: {a, b, c}, Balancer: {lb}, Disk: {d}})
	first, err := table.Serving()
	if err != nil {
		t.Fatal(err)
	}
	// The preferred server goes first, so that the last order is another than
	// the table's own.
	table.Observe(first.Addrs()[0], Down)
	before, err := table.Serving()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range table.All() {
		table.Observe(e.Addr, Down)
	}
	want := append(before.Addrs(), first.Addrs()[0], netip.MustParseAddrPort(d))
	for range 2 {
		got, err := table.Serving()
		if err != nil {
			t.Fatal(err)
		}
		if !got.Isolated() {
			t.Error("not marked as isolated")
		}
		if diff := cmp.Diff(want, got.Addrs(), cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
			t.Errorf("isolated order (-want +got):\n%s", diff)
		}
	}
	table.Observe(before.Addrs()[0], Up)
	got, err := table.Serving()
	if err != nil {
		t.Fatal(err)
	}
	if got.Isolated() || got.Addrs()[0] != before.Addrs()[0] {
		t.Errorf("after one came back: got %s (isolated %v), want %s alone", got, got.Isolated(), before.Addrs()[0])
	}
}

// Every node has an order of its own, so that the first server is not the same
// everywhere.
func TestEachServerIsFirstForItsShareOfNodes(t *testing.T) {
	fleets := map[string][]string{
		"neighbouring IPv4 addresses": {a, b, c},
		"spread IPv4 addresses":       {"172.20.1.10:443", "172.20.37.4:443", "172.20.90.200:443"},
		"neighbouring IPv6 addresses": {"[fd00::1]:443", "[fd00::2]:443", "[fd00::3]:443"},
	}
	names := map[string]string{"instance ids": "i-0b5%013x", "host names": "worker-%d"}
	const nodes = 100
	for fleet, servers := range fleets {
		for kind, format := range names {
			t.Run(fleet+" and "+kind, func(t *testing.T) {
				first := map[netip.AddrPort]int{}
				for i := range nodes {
					table := NewTable(fmt.Sprintf(format, i), netip.Addr{})
					if _, err := table.Replace(Overlay, addrs(servers...)); err != nil {
						t.Fatal(err)
					}
					s, err := table.Serving()
					if err != nil {
						t.Fatal(err)
					}
					first[s.Addrs()[0]]++
				}
				for _, x := range addrs(servers...) {
					if first[x] < nodes*15/100 {
						t.Errorf("%s is first for %d of %d nodes, want at least 15 %%", x, first[x], nodes)
					}
				}
			})
		}
	}
}

func anyAddr() *rapid.Generator[netip.AddrPort] {
	return rapid.Custom(func(t *rapid.T) netip.AddrPort {
		last := rapid.ByteRange(1, 9).Draw(t, "host")
		ip := netip.AddrFrom4([4]byte{172, 20, 0, last})
		if rapid.Bool().Draw(t, "v6") {
			ip = netip.AddrFrom16([16]byte{0xfd, 15: last})
		}
		return netip.AddrPortFrom(ip, rapid.SampledFrom([]uint16{443, 6443}).Draw(t, "port"))
	})
}

func TestAddingAServerReordersNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := rapid.StringMatching(`[a-z0-9-]{1,20}`).Draw(t, "node")
		some := rapid.SliceOfNDistinct(anyAddr(), 2, 8, rapid.ID).Draw(t, "servers")
		order := func(list []netip.AddrPort) []netip.AddrPort {
			table := NewTable(node, netip.Addr{})
			if _, err := table.Replace(Overlay, list); err != nil {
				t.Fatal(err)
			}
			s, err := table.Serving()
			if err != nil {
				t.Fatal(err)
			}
			return s.Addrs()
		}
		newcomer := some[0]
		before, after := order(some[1:]), order(some)
		rest := slices.DeleteFunc(after, func(x netip.AddrPort) bool { return x == newcomer })
		if !slices.Equal(before, rest) {
			t.Errorf("before %v, after %v", before, rest)
		}
	})
}

// Whatever sources say, retract and observe, once there was an answer there
// always is one, without repeats, and only of addresses that somebody names.
func TestServingIsNeverEmptyAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable("node-1", netip.Addr{})
		source := rapid.Map(rapid.IntRange(int(Overlay), int(Disk)), func(i int) Source { return Source(i) })
		pool := rapid.OneOf(anyAddr(), rapid.Just(netip.AddrPort{}))
		answered := false
		t.Repeat(map[string]func(*rapid.T){
			"replace": func(t *rapid.T) {
				_, err := table.Replace(source.Draw(t, "source"), rapid.SliceOfN(pool, 0, 4).Draw(t, "addrs"))
				answered = answered || err == nil
			},
			"retract": func(t *rapid.T) {
				if err := table.Retract(source.Draw(t, "source")); err != nil && !errors.Is(err, ErrEmpty) {
					t.Fatal(err)
				}
			},
			"observe": func(t *rapid.T) {
				table.Observe(pool.Draw(t, "addr"), rapid.SampledFrom([]Health{Unknown, Up, Down, Down}).Draw(t, "health"))
			},
			"all down": func(*rapid.T) {
				for _, e := range table.All() {
					table.Observe(e.Addr, Down)
				}
			},
			"": func(t *rapid.T) {
				s, err := table.Serving()
				if !answered {
					if !errors.Is(err, ErrEmpty) {
						t.Fatalf("nobody has answered yet and got %s, error %v", s, err)
					}
					return
				}
				if err != nil || s.Len() == 0 {
					t.Fatalf("serves %d endpoints, error %v", s.Len(), err)
				}
				seen := map[netip.AddrPort]bool{}
				for _, e := range s.Endpoints() {
					if seen[e.Addr] || !table.isKnown(e.Addr) || len(e.Sources) == 0 {
						t.Fatalf("serves %s twice, unnamed or without provenance", e)
					}
					if e.Health == Down && !s.Isolated() {
						t.Fatalf("serves %s without being isolated", e)
					}
					seen[e.Addr] = true
				}
				if again, err := table.Serving(); err != nil || !again.SameAddrs(s) {
					t.Fatalf("asked again: got %s and error %v, want %s", again, err, s)
				}
			},
		})
	})
}

func TestADrainingServerServesOnlyWhileNobodyElseDoes(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:443"), netip.MustParseAddrPort("10.0.0.2:443")
	table := NewTable("node", netip.Addr{})
	if _, err := table.Replace(Overlay, []netip.AddrPort{a, b}); err != nil {
		t.Fatal(err)
	}
	serving := func() Set {
		t.Helper()
		s, err := table.Serving()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	table.Observe(a, Draining)
	if s := serving(); !slices.Equal(s.Addrs(), []netip.AddrPort{b}) || !slices.Equal(s.Draining(), []netip.AddrPort{a}) {
		t.Errorf("serving %v, draining %v; want %v and %v", s, s.Draining(), b, a)
	}
	table.Observe(b, Down)
	if s := serving(); !slices.Equal(s.Addrs(), []netip.AddrPort{a}) || len(s.Draining()) != 0 || s.Isolated() {
		t.Errorf("with the other down: serving %v, draining %v, isolated %v; want %v, which answers", s, s.Draining(), s.Isolated(), a)
	}
}
