package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	a  = "172.20.0.4:443"
	b  = "172.20.0.5:443"
	c  = "172.20.0.6:443"
	a6 = "[fd00::4]:443"
	lb = "172.20.9.9:443"
	d  = "172.20.0.7:443"
)

// addrs parses addresses, so that tables stay readable.
func addrs(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, x := range s {
		out = append(out, netip.MustParseAddrPort(x))
	}
	return out
}

func TestReplace(t *testing.T) {
	bad := []netip.AddrPort{{}, netip.MustParseAddrPort("10.0.0.1:0")}
	tests := []struct {
		name        string
		before      []netip.AddrPort
		now         []netip.AddrPort
		wantChanged bool
		wantErr     error
		want        []string
	}{
		{"a first answer is news", nil, addrs(b, a), true, nil, []string{a, b}},
		{"the same answer is no news", addrs(a, b), addrs(a, b), false, nil, []string{a, b}},
		{"the same answer in another order is no news", addrs(a, b), addrs(b, a), false, nil, []string{a, b}},
		{"the same answer with repeats is no news", addrs(a, b), addrs(b, a, b), false, nil, []string{a, b}},
		{"fewer addresses are news", addrs(a, b), addrs(b), true, nil, []string{b}},
		{"another port is another address", addrs(a), addrs("172.20.0.4:6443"), true, nil, []string{"172.20.0.4:6443"}},
		{"IPv4 dressed up as IPv6 is IPv4", addrs(a), addrs("[::ffff:172.20.0.4]:443"), false, nil, []string{a}},
		{"an empty answer is refused", addrs(a, b), nil, false, ErrEmpty, []string{a, b}},
		{"an answer of nothing valid is refused", addrs(a, b), bad, false, ErrEmpty, []string{a, b}},
		{"what is invalid is left out", addrs(a, b), append(addrs(c), bad...), true, nil, []string{c}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := NewTable("node-1", netip.Addr{})
			if tt.before != nil {
				if _, err := table.Replace(Overlay, tt.before); err != nil {
					t.Fatal(err)
				}
			}
			changed, err := table.Replace(Overlay, tt.now)
			if changed != tt.wantChanged || !errors.Is(err, tt.wantErr) {
				t.Errorf("got changed %v and error %v, want %v and %v", changed, err, tt.wantChanged, tt.wantErr)
			}
			s, err := table.Serving()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{tt.want}, groups(s, [][]string{tt.want})); diff != "" {
				t.Errorf("serving (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReplaceCopiesItsArgument(t *testing.T) {
	list := addrs(b, a)
	table := NewTable("node-1", netip.Addr{})
	if _, err := table.Replace(Overlay, list); err != nil {
		t.Fatal(err)
	}
	if list[0] != netip.MustParseAddrPort(b) {
		t.Error("sorted the caller's slice")
	}
	list[0] = netip.MustParseAddrPort(c)
	if table.isKnown(list[0]) {
		t.Error("the caller's later change reached the table")
	}
}

func TestRetract(t *testing.T) {
	table := tableOf(t, named{Overlay: {a, b}, Boot: {c}})
	if err := table.Retract(Slice); err != nil {
		t.Errorf("a source that said nothing: %v", err)
	}
	if err := table.Retract(Overlay); err != nil {
		t.Errorf("one source of two: %v", err)
	}
	if err := table.Retract(Boot); !errors.Is(err, ErrEmpty) {
		t.Errorf("the last source: got error %v, want %v", err, ErrEmpty)
	}
	s, err := table.Serving()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.String(), c; got != want {
		t.Errorf("serving: got %s, want %s", got, want)
	}
}

func TestObserve(t *testing.T) {
	table := tableOf(t, named{Overlay: {a, b}, Boot: {c}})
	at := netip.MustParseAddrPort(a)
	for i, step := range []struct {
		name string
		addr netip.AddrPort
		h    Health
		want bool
	}{
		{"unknown is what everything starts as", at, Unknown, false},
		{"down is news", at, Down, true},
		{"down again is no news", at, Down, false},
		{"IPv4 dressed up as IPv6 is the same address", netip.MustParseAddrPort("[::ffff:172.20.0.4]:443"), Down, false},
		{"up is news", at, Up, true},
		{"a stranger is ignored", netip.MustParseAddrPort(d), Down, false},
	} {
		if got := table.Observe(step.addr, step.h); got != step.want {
			t.Errorf("step %d, %s: got %v, want %v", i, step.name, got, step.want)
		}
	}
}

// An address that went away and comes back is another server for all we know.
func TestHealthOfARemovedAddressIsDropped(t *testing.T) {
	forget := map[string]func(*Table) error{
		"by a new answer": func(t *Table) error { _, err := t.Replace(Overlay, addrs(b)); return err },
		"by a retraction": func(t *Table) error { return t.Retract(Overlay) },
	}
	for name, gone := range forget {
		t.Run(name, func(t *testing.T) {
			table := tableOf(t, named{Overlay: {a, b}, Boot: {b}}, a)
			if err := gone(table); err != nil {
				t.Fatal(err)
			}
			if _, err := table.Replace(Overlay, addrs(a, b)); err != nil {
				t.Fatal(err)
			}
			for _, e := range table.All() {
				if e.Health != Unknown {
					t.Errorf("%s came back as %s, want unknown", e.Addr, e.Health)
				}
			}
		})
	}
}

func TestTheNodesOwnAddressIsTriedFirst(t *testing.T) {
	for _, self := range []string{"172.20.0.6", "::ffff:172.20.0.6"} {
		for i := range 50 {
			table := NewTable(fmt.Sprintf("node-%d", i), netip.MustParseAddr(self))
			if _, err := table.Replace(Overlay, addrs(a, b, c)); err != nil {
				t.Fatal(err)
			}
			if got, want := table.All()[0].Addr, netip.MustParseAddrPort(c); got != want {
				t.Fatalf("self %s on node-%d: first is %s, want %s", self, i, got, want)
			}
		}
	}
}

func TestProvenanceIsKept(t *testing.T) {
	table := tableOf(t, named{Slice: {a}, Overlay: {a}, Disk: {a}, Balancer: {lb}}, a)
	all := table.All()
	if got, want := all[0].String(), "172.20.0.4:443 (down, overlay+endpointslice+disk)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := all[1].String(), "172.20.9.9:443 (unknown, load-balancer)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if all[0].IsBalancer() || !all[1].IsBalancer() {
		t.Error("the balancer is not told from the server")
	}
}

func TestEndpointsSurviveJSON(t *testing.T) {
	want := tableOf(t, named{Overlay: {a}, Disk: {a}, Balancer: {lb}}, a).All()
	wire, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got []Endpoint
	if err := json.Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" {
		t.Errorf("endpoints (-written +read):\n%s", diff)
	}
	for _, bad := range []string{`[{"sources":["rumour"]}]`, `[{"health":"fine"}]`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

func TestEverySourceAndHealthHasAName(t *testing.T) {
	for src := Overlay; src <= Disk; src++ {
		var back Source
		if err := back.UnmarshalText([]byte(src.String())); err != nil || back != src {
			t.Errorf("source %d: %q reads back as %v, error %v", src, src, back, err)
		}
	}
	for _, h := range []Health{Unknown, Up, Down} {
		var back Health
		if err := back.UnmarshalText([]byte(h.String())); err != nil || back != h {
			t.Errorf("health %d: %q reads back as %v, error %v", h, h, back, err)
		}
	}
	if got, want := Source(99).String(), "source(99)"; got != want {
		t.Errorf("unknown source: got %s, want %s", got, want)
	}
}
