package endpoint

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is preferred: the same servers serve, and within a tier those that are
// near come first.
func TestPreferenceOrdersAndExcludesNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		self := rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("172.20.0.3")}).Draw(t, "self")
		plain, preferring := NewTable("node-1", self), NewTable("node-1", self)
		networks := rapid.SliceOf(rapid.SampledFrom([]netip.Prefix{
			netip.MustParsePrefix("172.20.0.0/30"), netip.MustParsePrefix("172.20.0.4/31"), netip.MustParsePrefix("fd00::/16"), netip.MustParsePrefix("10.9.0.0/16"),
		})).Draw(t, "preferred networks")
		preferring.Prefer(networks)
		for src := Overlay; src <= Disk; src++ {
			servers := rapid.SliceOfN(anyAddr(), 0, 4).Draw(t, src.String())
			for _, table := range []*Table{plain, preferring} {
				_, _ = table.Replace(src, servers) // none is refused by both
			}
		}
		for _, e := range plain.All() {
			health := rapid.SampledFrom([]Health{Unknown, Up, Down, Draining}).Draw(t, "health")
			plain.Observe(e.Addr, health)
			preferring.Observe(e.Addr, health)
		}
		want, err := plain.Serving()
		got, gotErr := preferring.Serving()
		if (err == nil) != (gotErr == nil) {
			t.Fatalf("error %v; without preference %v", gotErr, err)
		}
		sorted := func(addrs []netip.AddrPort) []netip.AddrPort {
			return slices.SortedFunc(slices.Values(addrs), netip.AddrPort.Compare)
		}
		if !slices.Equal(sorted(got.Addrs()), sorted(want.Addrs())) || !slices.Equal(sorted(got.Draining()), sorted(want.Draining())) || got.Isolated() != want.Isolated() {
			t.Fatalf("serving %s, draining %v, isolated %v; without preference %s, %v, %v", got, got.Draining(), got.Isolated(), want, want.Draining(), want.Isolated())
		}
		all := got.Endpoints()
		for i := 1; i < len(all); i++ {
			x, y := all[i-1], all[i]
			if x.tier() == y.tier() && y.Near && !x.Near && x.Addr.Addr() != self {
				t.Fatalf("%s before %s, which is near", x, y)
			}
		}
		for _, e := range all {
			near := slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(e.Addr.Addr()) })
			if e.Near != near {
				t.Fatalf("%s: near %v, want %v", e.Addr, e.Near, near)
			}
		}
	})
}
