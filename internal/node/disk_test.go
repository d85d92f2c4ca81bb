package node

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/identity"
)

func TestWhatIsKeptOnDisk(t *testing.T) {
	const name = "api.internal"
	a, b, c, d := netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.2:6443"), netip.MustParseAddrPort("10.0.0.3:6443"), netip.MustParseAddrPort("10.0.0.4:6443")
	dir := t.TempDir()
	v := newView(Config{Cluster: "home.example", Node: "n", Role: identity.Worker, Services: []Service{{Name: name}}}, slog.New(slog.DiscardHandler))
	m, err := openMemory(dir)
	if err != nil {
		t.Fatal(err)
	}
	observe := func(up ...netip.AddrPort) {
		results := make(map[netip.AddrPort]health.Result)
		for _, e := range v.known(name) {
			results[e.Addr] = health.Result{Health: endpoint.Down}
		}
		for _, addr := range up {
			results[addr] = health.Result{Health: endpoint.Up}
		}
		v.observe(name, results)
	}
	kept := func(when string, want ...netip.AddrPort) {
		t.Helper()
		sets, _, _ := v.snapshot()
		if err := m.keep(sets); err != nil {
			t.Fatal(err)
		}
		again, err := openMemory(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := again.recall(name)
		slices.SortFunc(got, netip.AddrPort.Compare)
		if !slices.Equal(got, want) {
			t.Errorf("%s: kept %v, want %v", when, got, want)
		}
	}

	v.learn(name, endpoint.Boot, []netip.AddrPort{a})
	observe(a)
	kept("with what the configuration says anyway")
	v.learn(name, endpoint.Stream, []netip.AddrPort{b})
	observe(a, b)
	kept("with a live list", b)
	v.learn(name, endpoint.DNS, []netip.AddrPort{c, d})
	observe(b)
	kept("with a live list that works, and DNS", b)
	observe()
	kept("with nothing that works", b)
	observe(c)
	kept("with a server that DNS listed and that works alone", b, c)
	observe(b, c)
	kept("with the live list back", b)
}
