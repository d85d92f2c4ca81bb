package mesh

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// graph builds the topology as peer self sees it: every peer claims its edges,
// and self has a connection for each of its own.
func graph(self int, edges map[int][]int) (*table, []*peer) {
	name := func(i int) wire.Name { return wire.Name{byte(i + 1)} } // ordered as the numbers
	t := newTable(&peer{name: name(self), nick: string(rune('a' + self)), uid: 1, version: 1})
	peers := make([]*peer, len(edges))
	for i := range edges {
		peers[i] = t.peer(name(i))
		peers[i].nick, peers[i].version = string(rune('a'+i)), 1
	}
	for i, to := range edges {
		for _, j := range to {
			peers[i].edges = append(peers[i].edges, edge{to: peers[j], established: true})
			if i == self {
				peers[j].link = &link{peer: peers[j]}
			}
		}
	}
	return t, peers
}

func nicks(peers []*peer) (out []string) {
	for _, p := range peers {
		out = append(out, p.nick)
	}
	slices.Sort(out)
	return out
}

func TestRoutesOfTheWorkedExample(t *testing.T) { // A7: a<b<c<d, edges ab ac bc bd cd
	edges := map[int][]int{0: {1, 2}, 1: {0, 2, 3}, 2: {0, 1, 3}, 3: {1, 2}}
	want := map[int][]string{0: {"b", "c"}, 1: {"d"}, 2: nil, 3: nil}
	for self, hops := range want {
		table, peers := graph(self, edges)
		if diff := cmp.Diff(hops, nicks(newRoutes(table).broadcast(peers[0].name))); diff != "" {
			t.Errorf("%s relays a broadcast of a to (-want +got):\n%s", peers[self].nick, diff)
		}
	}
	table, peers := graph(0, edges)
	r := newRoutes(table)
	for to, want := range map[int]string{1: "b", 2: "c", 3: "b"} {
		if got := r.unicast(peers[to].name); got == nil || got.nick != want {
			t.Errorf("first hop to %s is %v, want %s", peers[to].nick, got, want)
		}
	}
	if got := r.unicast(peers[0].name); got != nil {
		t.Errorf("first hop to self is %s", got.nick)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if diff := cmp.Diff([]string{"b", "c"}, nicks(r.pickNeighbours(rng, nil))); diff != "" {
		t.Errorf("random neighbours (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"c"}, nicks(r.pickNeighbours(rng, peers[1]))); diff != "" {
		t.Errorf("random neighbours except b (-want +got):\n%s", diff)
	}
}

func TestRandomNeighboursAreAboutTwiceTheLogarithm(t *testing.T) {
	edges := map[int][]int{}
	for i := range 100 {
		for j := range 100 {
			if i != j {
				edges[i] = append(edges[i], j)
			}
		}
	}
	table, _ := graph(0, edges)
	got := newRoutes(table).pickNeighbours(rand.New(rand.NewPCG(1, 1)), nil)
	if len(got) != 13 { // floor(2*log2(100))
		t.Errorf("%d neighbours of 99, want 13", len(got))
	}
	if len(slices.Compact(nicks(got))) != len(got) {
		t.Error("a neighbour was drawn twice")
	}
}

// drawGraph returns a connected graph with symmetric edges.
func drawGraph(t *rapid.T) map[int][]int {
	n := rapid.IntRange(2, 12).Draw(t, "peers")
	edges := make(map[int][]int)
	connect := func(i, j int) {
		if i != j && !slices.Contains(edges[i], j) {
			edges[i], edges[j] = append(edges[i], j), append(edges[j], i)
		}
	}
	for i := 1; i < n; i++ {
		connect(i, rapid.IntRange(0, i-1).Draw(t, "parent"))
	}
	for range rapid.IntRange(0, 2*n).Draw(t, "more") {
		connect(rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to"))
	}
	return edges
}

func TestEveryPeerGetsABroadcastOnceIfAllSeeTheSameTopology(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		edges := drawGraph(t)
		origin := rapid.IntRange(0, len(edges)-1).Draw(t, "origin")
		got := make([]int, len(edges))
		queue := []int{origin}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			table, peers := graph(at, edges)
			for _, to := range newRoutes(table).broadcast(peers[origin].name) {
				i := slices.Index(peers, to)
				if got[i]++; got[i] > 1 {
					t.Fatalf("%d got the broadcast of %d twice", i, origin)
				}
				queue = append(queue, i)
			}
		}
		for i, n := range got {
			if want := 1; i != origin && n != want {
				t.Fatalf("%d got the broadcast of %d %d times", i, origin, n)
			}
		}
	})
}

func TestUnicastsArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		edges := drawGraph(t)
		at := rapid.IntRange(0, len(edges)-1).Draw(t, "from")
		to := rapid.IntRange(0, len(edges)-1).Draw(t, "to")
		for hops := 0; at != to; hops++ {
			table, peers := graph(at, edges)
			next := newRoutes(table).unicast(peers[to].name)
			if next == nil || hops > len(edges) {
				t.Fatalf("a unicast for %d got stuck at %d after %d hops", to, at, hops)
			}
			at = slices.Index(peers, next)
		}
	})
}

func TestOnlyEstablishedConnectionsOfBothEndsCount(t *testing.T) { // A7, second mode
	table, peers := graph(0, map[int][]int{0: {1, 3}, 1: {0, 2}, 2: {1}, 3: {0}, 4: {}})
	peers[3].edges = nil
	peers[1].edges[1].established = false
	r := newRoutes(table)
	for i, want := range []bool{true, true, false, false, false} {
		if got := r.isRouted(peers[i]); got != want {
			t.Errorf("%s is routed: %v, want %v", peers[i].nick, got, want)
		}
	}
}

func drawNames(t *rapid.T) []wire.Name {
	n := rapid.IntRange(1, 300).Draw(t, "peers")
	names := make([]wire.Name, n)
	seed := rapid.Uint64().Draw(t, "seed")
	for i := range names {
		names[i] = wire.NameOf(fmt.Sprint(seed, i))
	}
	slices.SortFunc(names, wire.Name.Compare)
	return names
}

func TestTheRingConnectsEverybodyWithFewConnections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := drawNames(t)
		edges := make(map[wire.Name][]wire.Name)
		for _, n := range names {
			chosen := ring(n, names)
			if slices.Contains(chosen, n) || len(chosen) > max(fullMesh, 12) {
				t.Fatalf("%s dials %d peers, itself among them: %v", n, len(chosen), slices.Contains(chosen, n))
			}
			for _, to := range chosen {
				edges[n] = append(edges[n], to)
				edges[to] = append(edges[to], n)
			}
		}
		depth := map[wire.Name]int{names[0]: 0}
		queue := []wire.Name{names[0]}
		for i := 0; i < len(queue); i++ {
			for _, to := range edges[queue[i]] {
				if _, seen := depth[to]; !seen {
					depth[to] = depth[queue[i]] + 1
					queue = append(queue, to)
				}
			}
		}
		if far := depth[queue[len(queue)-1]]; len(queue) != len(names) || far > 8 {
			t.Fatalf("%d of %d peers are connected, the farthest %d hops away", len(queue), len(names), far)
		}
	})
}

func TestAPeerThatComesChangesFewChoices(t *testing.T) {
	var names []wire.Name
	for i := range 200 {
		names = append(names, nameOf(i))
	}
	slices.SortFunc(names, wire.Name.Compare)
	gone := names[77]
	less := slices.DeleteFunc(slices.Clone(names), func(n wire.Name) bool { return n == gone })
	changed := 0
	for _, n := range less {
		before, after := ring(n, names), ring(n, less)
		for _, x := range after {
			if !slices.Contains(before, x) {
				changed++
			}
		}
	}
	if changed > 30 {
		t.Errorf("%d new connections because one of 200 peers left", changed)
	}
}

func TestPeersAreDialedWhereTheyCanBeReached(t *testing.T) { // A11
	addr := netip.MustParseAddrPort
	for _, tc := range []struct {
		name string
		edge edge
		want netip.AddrPort // the zero value if nowhere
	}{
		{"where another has dialed it", edge{addr: "10.1.2.3:4000", outbound: true}, addr("10.1.2.3:4000")},
		{"where it came from, at our own port", edge{addr: "10.1.2.3:50123"}, addr("10.1.2.3:3999")},
		{"by IPv6", edge{addr: "[fd00::1]:50123"}, addr("[fd00::1]:3999")},
		{"not at our own address", edge{addr: "10.0.0.0:3999", outbound: true}, netip.AddrPort{}},
		{"not at an address that is none", edge{addr: "somewhere"}, netip.AddrPort{}},
		{"not at any address", edge{addr: "0.0.0.0:3999", outbound: true}, netip.AddrPort{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, Config{})
			tc.edge.to = &peer{name: wire.NameOf("a")}
			var got netip.AddrPort
			if target := h.m.addressOf(tc.edge); target != nil {
				got = target.addr
			}
			if got != tc.want {
				t.Errorf("dialed at %v, want %v", got, tc.want)
			}
		})
	}
}

func TestTheTableFollowsTheRules(t *testing.T) { // A6
	short := claims("a", 7, 5)
	short.HasShortID, short.ShortID = true, 9
	for _, tc := range []struct {
		name   string
		update wire.Record
		fresh  bool
	}{
		{"an unknown peer is taken", claims("new", 1, 0), true},
		{"a greater version is taken", claims("a", 1, 6, "x"), true},
		{"a lesser version is not", claims("a", 9, 4), false},
		{"of equal versions the greater UID is taken", claims("a", 8, 5), true},
		{"of equal versions the lesser UID is not", claims("a", 6, 5), false},
		{"the same is no news", claims("a", 7, 5), false},
		{"unless it brings a short id", short, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHarness(t, Config{})
			id := h.connect("a")
			h.mustReceive(id, topo("a", claims("a", 7, 5, "self")))
			before := h.m.Stats().Updates
			h.mustReceive(id, topo("a", tc.update))
			if got := h.m.Stats().Updates > before; got != tc.fresh {
				t.Errorf("taken as news: %v, want %v", got, tc.fresh)
			}
		})
	}
}

func TestAFormerLifeOfOursIsOutbid(t *testing.T) { // A6
	h := newHarness(t, Config{})
	a := h.connect("a")
	for _, tc := range []struct {
		name    string
		record  wire.Record
		version uint64
	}{
		{"a record of ours means nothing", claims("self", 100, 9), 1},
		{"an older one of another UID neither", claims("self", 5, 0), 1},
		{"one that would win is outbid", claims("self", 5, 9, "x"), 10},
		{"one that cannot be outbid is left alone", claims("self", 5, ^uint64(0)), 10},
	} {
		h.mustReceive(a, topo("a", tc.record))
		if got := h.m.table.self.version; got != tc.version {
			t.Errorf("%s: our version is %d, want %d", tc.name, got, tc.version)
		}
	}
	h.advance(updateDelay)
	if got := describe(t, h.sent(a)); !slices.Contains(got, "4 topology from self: self/10") {
		t.Errorf("told %v, want our new record", got)
	}
}

func TestUnreachablePeersAreDroppedAfterAWhile(t *testing.T) { // A6
	h, left, _ := line(t, Config{})
	has := func(n string) bool {
		return slices.ContainsFunc(h.m.Peers(), func(p Peer) bool { return p.NickName == n })
	}
	h.mustReceive(left, topo("a", claims("a", 7, 3, "self")))
	h.advance(2 * time.Second)
	if !has("x") || slices.Contains(h.m.table.participants(), wire.NameOf("x")) {
		t.Error("a peer that has just become unreachable is forgotten, or still counted as taking part")
	}
	h.advance(unreachableTTL)
	if has("x") {
		t.Error("an unreachable peer is kept for ever")
	}
	if !has("y") {
		t.Error("a reachable peer was dropped")
	}
}

func TestTheTableIsBounded(t *testing.T) {
	h := newHarness(t, Config{})
	a := h.connect("a")
	for batch := range 3 {
		var records []wire.Record
		for i := range 2000 {
			records = append(records, claims(fmt.Sprint(batch, i), 7, 1))
		}
		h.mustReceive(a, topo("a", records...))
	}
	if n := len(h.m.table.peers); n > maxPeers || h.m.Stats().Refused == 0 {
		t.Errorf("%d peers known, %d refused", n, h.m.Stats().Refused)
	}
}
