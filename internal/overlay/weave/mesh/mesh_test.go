package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/overlay/legacy"
	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

func TestRegistrationIsCheckedInOrder(t *testing.T) { // A3 step 5, A9
	dialed := func(r Hello) Hello {
		r.Outbound, r.Target, r.Addr = true, simAddr(5), simAddr(5).String()
		return r
	}
	for _, tc := range []struct {
		name  string
		cfg   Config
		first *Hello // a connection that is there already
		hello Hello
		want  error
		evict bool
	}{
		{"a stranger who dials us is welcome", Config{}, nil, hello("a", 7, 1), nil, false},
		{"a stranger at an address that the mesh told us is not", Config{}, nil, dialed(hello("a", 7, 1)), ErrStranger, false},
		{"our own name with our own UID is ourselves", Config{}, nil, hello("self", 100, 1), ErrSelf, false},
		{"our own name with another UID is a collision", Config{}, nil, hello("self", 101, 1), ErrCollision, false},
		{"the connection with the lower number survives, the new one", Config{}, ptr(hello("a", 7, 9)), hello("a", 7, 1), nil, true},
		{"the connection with the lower number survives, the old one", Config{}, ptr(hello("a", 7, 1)), hello("a", 7, 9), ErrDuplicate, false},
		{"connections with the same number both end", Config{}, ptr(hello("a", 7, 1)), hello("a", 7, 1), ErrDuplicate, true},
		{"the limit holds for others", Config{ConnLimit: 1}, ptr(hello("a", 7, 1)), hello("b", 7, 1), ErrLimit, false},
		{"the limit does not keep a connection from being replaced", Config{ConnLimit: 1}, ptr(hello("a", 7, 9)), hello("a", 7, 1), nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, tc.cfg)
			var first LinkID
			if tc.first != nil {
				id, err := h.m.Register(h.now, *tc.first)
				if err != nil {
					t.Fatal(err)
				}
				first = id
				h.m.TakeEffects()
			}
			if _, err := h.m.Register(h.now, tc.hello); !errors.Is(err, tc.want) {
				t.Errorf("Register: %v, want %v", err, tc.want)
			}
			evicted := slices.ContainsFunc(h.m.TakeEffects().Close, func(c Closing) bool { return c.ID == first })
			if evicted != tc.evict {
				t.Errorf("the first connection was closed: %v, want %v", evicted, tc.evict)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestANewNeighbourIsToldEverythingUnlessItTakesPart(t *testing.T) { // A3 step 6
	h := newHarness(t, Config{})
	a := h.connect("a")
	h.mustReceive(a, topo("a", claims("a", 7, 2, "self", "b"), claims("b", 7, 2, "a")))
	h.mustReceive(a, dns(wire.Gossip, "a", rec("k", "v", 1)))
	h.advance(5 * time.Second)
	h.sent(a)
	for _, tc := range []struct {
		name  string
		hello Hello
		want  []string
	}{
		{"unknown", hello("x", 7, 2), []string{"4 topology from self: a/2 b/2 self/2 x/0", "4 dns from self: k=v"}},
		{"known and reached over established connections", hello("b", 7, 2), []string{"4 dns from self: k=v"}},
		{"restarted", hello("b", 8, 1), []string{"4 topology from self: a/2 b/2 self/5 x/0", "4 dns from self: k=v"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := h.m.Register(h.now, tc.hello)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, describe(t, h.sent(id))); diff != "" {
				t.Errorf("greeted with (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnlyConnectionsToParticipantsAreClaimed(t *testing.T) {
	h := newHarness(t, Config{})
	x := h.connect("x")
	h.advance(5 * time.Second)
	if v := h.m.table.self.version; v != 1 {
		t.Errorf("a neighbour that claims nothing has made our version %d, want 1", v)
	}
	h.mustReceive(x, topo("x", claims("x", 7, 2)))
	if v := h.m.table.self.version; v != 2 || len(h.m.table.self.edges) != 1 {
		t.Errorf("a neighbour that speaks for itself is claimed %d times in version %d, want once in 2", len(h.m.table.self.edges), v)
	}
	h.m.Close(h.now, x)
	if v := h.m.table.self.version; v != 3 || len(h.m.table.self.edges) != 0 {
		t.Errorf("its end left %d claims in version %d, want 0 in 3", len(h.m.table.self.edges), v)
	}
}

func TestAChangeOfOurRecordIsToldAfterASecond(t *testing.T) { // A8
	h := newHarness(t, Config{})
	a, c := h.connect("a"), h.connect("c")
	h.mustReceive(a, topo("a", claims("a", 7, 2, "self")))
	h.advance(200 * time.Millisecond)
	h.mustReceive(c, topo("c", claims("c", 7, 4, "self")))
	h.advance(700 * time.Millisecond)
	h.sent(a)
	h.sent(c)
	h.advance(200 * time.Millisecond)
	// Nobody is told about itself: it knows better.
	if diff := cmp.Diff([]string{"4 topology from self: c/4 self/3"}, describe(t, h.sent(a))); diff != "" {
		t.Errorf("told a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"4 topology from self: a/2 self/3"}, describe(t, h.sent(c))); diff != "" {
		t.Errorf("told c (-want +got):\n%s", diff)
	}
}

// line makes a peer in the middle of x - a - self - b - y.
func line(t *testing.T, cfg Config) (h *harness, left, right LinkID) {
	t.Helper()
	h = newHarness(t, cfg)
	left, right = h.connect("a"), h.connect("b")
	h.mustReceive(left, topo("a", claims("a", 7, 2, "self", "x"), claims("x", 7, 2, "a")))
	h.mustReceive(right, topo("b", claims("b", 7, 2, "self", "y"), claims("y", 7, 2, "b")))
	h.advance(10 * time.Second)
	h.sent(left)
	h.sent(right)
	return h, left, right
}

func TestWhatArrivesIsPassedOn(t *testing.T) { // A10
	known, news := rec("known", "v", 5), rec("new", "v", 5)
	for _, tc := range []struct {
		name        string
		message     wire.Message
		left, right []string // at once
		later       []string // to the right, within a second
	}{
		{"gossip: only what is new, not to where it came from", dns(wire.Gossip, "a", known, news),
			nil, []string{"4 dns from self: new=v"}, nil},
		{"gossip without news ends here", dns(wire.Gossip, "a", known), nil, nil, nil},
		{"a broadcast goes down the tree of its origin, and once more as gossip", dns(wire.Broadcast, "x", known, news),
			nil, []string{"6 dns from x: new=v"}, []string{"4 dns from self: new=v"}},
		{"a broadcast without news ends here", dns(wire.Broadcast, "x", known), nil, nil, nil},
		{"a broadcast of a peer that the tree does not start from becomes gossip", dns(wire.Broadcast, "z", news),
			nil, nil, []string{"4 dns from self: new=v"}},
		{"a broadcast of our own that comes back goes no further", dns(wire.Broadcast, "self", known), nil, nil, nil},
		{"an empty state is no fault", dns(wire.Gossip, "a"), nil, nil, nil},
		{"unicast for us is merged and not answered", func() wire.Message {
			m := dns(wire.Unicast, "x", news)
			m.To = wire.NameOf("self")
			return m
		}(), nil, nil, nil},
		{"unicast for another goes on unchanged", func() wire.Message {
			m := dns(wire.Unicast, "x", news)
			m.To = wire.NameOf("y")
			return m
		}(), nil, []string{"5 dns from x: new=v"}, nil},
		{"unicast for nobody is dropped", func() wire.Message {
			m := dns(wire.Unicast, "x", news)
			m.To = wire.NameOf("z")
			return m
		}(), nil, nil, nil},
		{"channels that kOps does not have are not relayed", wire.Message{Tag: wire.Broadcast, Channel: "other", From: wire.NameOf("x"), Data: []byte("?")}, nil, nil, nil},
		{"tags of the future mean nothing", wire.Message{Tag: 99}, nil, nil, nil},
		{"records of others are told after a moment", topo("a", claims("c", 7, 3, "a"), claims("a", 7, 2, "self", "x")),
			nil, nil, []string{"4 topology from self: c/3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, left, right := line(t, Config{})
			h.mustReceive(left, dns(wire.Gossip, "a", known))
			h.advance(2 * time.Second)
			h.sent(left)
			h.sent(right)
			h.mustReceive(left, tc.message)
			if diff := cmp.Diff(tc.left, describe(t, h.sent(left))); diff != "" {
				t.Errorf("to the left (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.right, describe(t, h.sent(right))); diff != "" {
				t.Errorf("to the right (-want +got):\n%s", diff)
			}
			h.advance(time.Second)
			if diff := cmp.Diff(tc.later, describe(t, h.sent(right))); diff != "" {
				t.Errorf("to the right, later (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALeafPassesNothingOnAndClaimsNothing(t *testing.T) { // A13 (ii-a)
	h, left, right := line(t, Config{Leaf: true, Links: 2})
	for _, m := range []wire.Message{dns(wire.Gossip, "a", rec("k", "v", 1)), dns(wire.Broadcast, "x", rec("l", "v", 1)), topo("a", claims("c", 7, 3, "a"))} {
		h.mustReceive(left, m)
	}
	h.advance(5 * time.Minute)
	if got := describe(t, h.sent(right)); got != nil {
		t.Errorf("a leaf has sent %v", got)
	}
	if v := h.m.table.self.version; v != 0 {
		t.Errorf("a leaf's record has version %d", v)
	}
	if err := h.m.Put(h.now, "mine", "v"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []LinkID{left, right} {
		if diff := cmp.Diff([]string{"4 dns from self: mine=v"}, describe(t, h.sent(id))); diff != "" {
			t.Errorf("a leaf writes (-want +got):\n%s", diff)
		}
	}
	id, err := h.m.Register(h.now, hello("c", 7, 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"4 dns from self: mine=v"}, describe(t, h.sent(id))); diff != "" {
		t.Errorf("a leaf greets (-want +got):\n%s", diff)
	}
}

func TestAWriteIsBroadcastWithTheWholeState(t *testing.T) { // A10
	h, left, _ := line(t, Config{})
	h.mustReceive(left, dns(wire.Gossip, "a", rec("other", "v", 1)))
	h.advance(2 * time.Second)
	h.sent(left)
	if err := h.m.Put(h.now, "mine", "w"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"6 dns from self: mine=w other=v"}, describe(t, h.sent(left))); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestPeriodicGossip(t *testing.T) { // A10
	h, left, right := line(t, Config{})
	h.mustReceive(left, dns(wire.Gossip, "a", rec("k", "v", 1)))
	h.advance(2 * time.Second)
	h.sent(left)
	h.sent(right)
	whole := 0
	for range fullTopologyRounds {
		h.advance(gossipInterval)
		for _, id := range []LinkID{left, right} {
			got := describe(t, h.sent(id))
			if !slices.Contains(got, "4 dns from self: k=v") {
				t.Errorf("a neighbour heard %v in a round of gossip", got)
			}
			whole += len(got) - 1
		}
	}
	if whole != 1 {
		t.Errorf("%d neighbours heard the whole topology in %d rounds, want 1", whole, fullTopologyRounds)
	}
}

func TestMalformedDataIsAnErrorAndChangesNothing(t *testing.T) { // A4
	h, left, right := line(t, Config{})
	cut := topo("a", claims("c", 7, 3, "a"), claims("d", 7, 3, "a"))
	cut.Data = cut.Data[:len(cut.Data)-3]
	foreign := topo("a", claims("c", 7, 3, "a"))
	foreign.Data[len(foreign.Data)-1] = 1 // another field follows, and then nothing
	unicast := topo("a", claims("c", 7, 3))
	unicast.Tag, unicast.To = wire.Unicast, wire.NameOf("self")
	peers := len(h.m.Peers())
	for _, tc := range []struct {
		name    string
		message wire.Message
	}{
		{"topology cut off", cut},
		{"topology with a malformed record", foreign},
		{"a unicast on the topology channel", unicast},
		{"state that is no protobuf", wire.Message{Tag: wire.Broadcast, Channel: wire.ChannelDNS, From: wire.NameOf("x"), Data: []byte{0x0a, 0x7f}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := h.receive(left, tc.message); err == nil {
				t.Error("no error")
			}
			if got := len(h.m.Peers()); got != peers {
				t.Errorf("%d peers known, want %d", got, peers)
			}
			if got := describe(t, h.sent(right)); got != nil {
				t.Errorf("passed on: %v", got)
			}
		})
	}
}

func TestAWriteBeforeTheMeshIsHeardIsNotLost(t *testing.T) {
	h := newHarness(t, Config{Leaf: true, Links: 1})
	if err := h.m.Put(h.now, "k", "mine"); err != nil {
		t.Fatal(err)
	}
	a := h.connect("a")
	later := uint64(h.now.Unix()) + 50
	h.mustReceive(a, dns(wire.Gossip, "a", rec("k", "theirs", later)))
	if r, _ := h.m.Get("k"); r.Value != "mine" || r.Version != later+1 {
		t.Errorf("holds %v, want ours with version %d", r, later+1)
	}
	h.mustReceive(a, dns(wire.Gossip, "a", rec("k", "theirs again", later+2)))
	if r, _ := h.m.Get("k"); r.Value != "theirs again" {
		t.Errorf("holds %v: a later write of another has to stand", r)
	}
}

func TestWhereARecordComesFromIsRemembered(t *testing.T) {
	h, left, _ := line(t, Config{})
	h.mustReceive(left, dns(wire.Gossip, "a", rec("g", "v", 1)))
	h.mustReceive(left, dns(wire.Broadcast, "x", rec("b", "v", 1)))
	h.mustReceive(left, dns(wire.Gossip, "a", rec("b", "w", 1)))
	for key, want := range map[string]Heard{
		"g": {From: wire.NameOf("a"), At: h.now},
		"b": {From: wire.NameOf("x"), Origin: true, At: h.now},
	} {
		if got, _ := h.m.Heard(key); got != want {
			t.Errorf("%s heard from %v, want %v", key, got, want)
		}
	}
	want := []legacy.Tie{{Held: rec("b", "v", 1), Other: rec("b", "w", 1)}}
	if diff := cmp.Diff(want, h.m.Ties()); diff != "" {
		t.Errorf("ties (-want +got):\n%s", diff)
	}
}

func TestSlowNeighboursGetMergedAndRecentState(t *testing.T) {
	h, left, right := line(t, Config{})
	for i := range 100 {
		h.mustReceive(left, dns(wire.Gossip, "a", rec("k", fmt.Sprint(i), uint64(i+1))))
	}
	if diff := cmp.Diff([]string{"4 dns from self: k=99"}, describe(t, h.sent(right))); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

func TestForwardedUnicastsAreBounded(t *testing.T) {
	h, left, right := line(t, Config{})
	m := wire.Message{Tag: wire.Unicast, Channel: wire.ChannelDNS, From: wire.NameOf("x"), To: wire.NameOf("y"), Data: make([]byte, 100_000)}
	for range 50 {
		h.mustReceive(left, m)
	}
	size := 0
	for _, m := range h.sent(right) {
		size += len(m.Data)
	}
	if size == 0 || size > maxForwarded || h.m.Stats().Refused == 0 {
		t.Errorf("%d bytes kept for one neighbour, %d refused", size, h.m.Stats().Refused)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(topo("a", claims("a", 7, 2, "self", "x")).Append(nil))
	f.Add(dns(wire.Broadcast, "x", rec("k", "v", 1)).Append(nil))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		m := New(Config{Node: "self", UID: 1, Discover: true, Rand: rand.New(rand.NewPCG(1, 1))}, epoch)
		m.SetListen(netip.MustParseAddrPort("10.0.0.1:3999"))
		now := epoch
		var ids []LinkID
		for _, n := range []string{"a", "b"} {
			id, err := m.Register(now, hello(n, 7, 1))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if p, err := Parse(frame); err == nil && m.Receive(now, ids[0], p) != nil {
			m.Close(now, ids[0])
		}
		for range 20 {
			m.TakeEffects()
			now = maxTime(now, m.NextTick())
			m.Tick(now)
			for _, id := range ids {
				for frame := m.Next(now, id); frame != nil; frame = m.Next(now, id) {
					if _, err := Parse(frame); err != nil {
						t.Fatalf("sends what it could not read itself: %v", err)
					}
				}
			}
		}
		m.Peers()
	})
}
