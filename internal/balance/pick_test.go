package balance

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 443)
}

func TestOrder(t *testing.T) {
	a, b, c, lb := addr(1), addr(2), addr(3), addr(9)
	tests := []struct {
		name string
		in   []candidate
		want []netip.AddrPort
	}{
		{"idle servers keep the order of the set",
			[]candidate{{addr: b}, {addr: a}, {addr: c}},
			[]netip.AddrPort{b, a, c}},
		{"the least loaded server comes first",
			[]candidate{{addr: a, load: 3}, {addr: b, load: 1}, {addr: c, load: 2}},
			[]netip.AddrPort{b, c, a}},
		{"a load balancer comes after the busiest server",
			[]candidate{{addr: a, load: 900}, {addr: lb, balancer: true}},
			[]netip.AddrPort{a, lb}},
		{"a server after the load balancer is only a memory and stays there",
			[]candidate{{addr: lb, balancer: true, load: 5}, {addr: a}},
			[]netip.AddrPort{lb, a}},
		{"a near server comes before an idle one that is not",
			[]candidate{{addr: a, near: true, load: 900}, {addr: b}},
			[]netip.AddrPort{a, b}},
		{"a near server that is suspect comes after all others",
			[]candidate{{addr: a, near: true, suspect: true}, {addr: b, load: 9}, {addr: lb, balancer: true}},
			[]netip.AddrPort{b, lb, a}},
		{"a suspect comes after the load balancer",
			[]candidate{{addr: a, suspect: true}, {addr: b, load: 9}, {addr: lb, balancer: true, load: 5}},
			[]netip.AddrPort{b, lb, a}},
		{"suspects are never left out (k3s#10240)",
			[]candidate{{addr: a, suspect: true, load: 1}, {addr: b, suspect: true}},
			[]netip.AddrPort{b, a}},
		{"nothing comes of nothing", nil, []netip.AddrPort{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, order(tt.in), cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOrderHoldsForAllSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// A set is servers, near ones first, then load balancers, then memories.
		sizes := rapid.SliceOfN(rapid.IntRange(0, 4), 4, 4).Draw(t, "near servers, servers, load balancers, memories")
		var in []candidate
		group := make(map[netip.AddrPort]int)
		place := make(map[netip.AddrPort]int)
		byAddr := make(map[netip.AddrPort]candidate)
		for g, n := range sizes {
			if g == 3 && sizes[2] == 0 {
				break // servers and memories would then be neighbours
			}
			for range n {
				c := candidate{
					addr:     addr(len(in)),
					balancer: g == 2,
					near:     g == 0,
					load:     rapid.IntRange(0, 3).Draw(t, "load"),
					suspect:  rapid.Bool().Draw(t, "suspect"),
				}
				group[c.addr], place[c.addr], byAddr[c.addr] = g, len(in), c
				in = append(in, c)
			}
		}
		before := slices.Clone(in)
		got := order(in)

		if !slices.Equal(in, before) {
			t.Fatal("the input was changed")
		}
		if len(in) > 0 && in[leader(in)].addr != got[0] {
			t.Fatalf("%s leads, and %s comes first", in[leader(in)].addr, got[0])
		}
		sorted := slices.SortedFunc(slices.Values(got), netip.AddrPort.Compare)
		var want []netip.AddrPort
		for _, c := range in {
			want = append(want, c.addr)
		}
		if !slices.Equal(sorted, want) {
			t.Fatalf("got %v, which is not a permutation of %v", sorted, want)
		}
		for i := 1; i < len(got); i++ {
			x, y := byAddr[got[i-1]], byAddr[got[i]]
			switch {
			case x.suspect != y.suspect:
				if x.suspect {
					t.Fatalf("suspect %s before %s", x.addr, y.addr)
				}
			case group[x.addr] != group[y.addr]:
				if group[x.addr] > group[y.addr] {
					t.Fatalf("%s of group %d before %s of group %d", x.addr, group[x.addr], y.addr, group[y.addr])
				}
			case x.load != y.load:
				if x.load > y.load {
					t.Fatalf("%s with load %d before %s with load %d", x.addr, x.load, y.addr, y.load)
				}
			case place[x.addr] > place[y.addr]:
				t.Fatalf("equals %s and %s changed places", x.addr, y.addr)
			}
		}
	})
}

// Each new connection goes to the first of the order. However uneven the start,
// once the total allows it no two equals differ by more than one.
func TestEqualsShareTheLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		loads := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 5).Draw(t, "loads")
		in := make([]candidate, len(loads))
		for i, load := range loads {
			in[i] = candidate{addr: addr(i), load: load}
		}
		for range 9 * len(loads) {
			first := order(in)[0]
			i := slices.IndexFunc(in, func(c candidate) bool { return c.addr == first })
			in[i].load++
		}
		for i := range in {
			loads[i] = in[i].load
		}
		if slices.Max(loads)-slices.Min(loads) > 1 {
			t.Fatalf("got loads %v", loads)
		}
	})
}

func TestKeepAliveSendsTwoProbesBeforeTheUserTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{3 * time.Second, 6 * time.Second, 30 * time.Second} {
		k := keepAlive(timeout)
		if got := k.Idle + 2*k.Interval; !k.Enable || got != timeout {
			t.Errorf("user timeout %s: enabled %t, the second probe is judged after %s", timeout, k.Enable, got)
		}
	}
}
