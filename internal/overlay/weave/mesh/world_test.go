package mesh

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

func (w *world) versions() map[wire.Name]uint64 {
	v := make(map[wire.Name]uint64)
	for _, n := range w.nodes {
		if !n.dead {
			v[n.table.self.name] = n.table.self.version
		}
	}
	return v
}

func TestSixtyPeersJoinAndAChangeReachesAll(t *testing.T) {
	w := newWorld(t, 1)
	took := w.mesh(60, 0, 1, 2)
	for _, n := range w.nodes {
		if len(n.links) > 40 && n.id > 2 {
			t.Errorf("node %d has %d connections", n.id, len(n.links))
		}
	}
	w.nodes[59].put("k", "v")
	reached := w.until(time.Second, func() bool { return w.all(func(n *node) bool { return n.has("k", "v") }) })
	t.Logf("joined in %v, a change reached all in %v", took, reached)
}

func TestAMeshAtRestIsQuiet(t *testing.T) {
	w := newWorld(t, 2)
	w.mesh(60, 0, 1, 2)
	w.run(time.Minute)
	before, frames, bytes := w.versions(), w.frames, w.bytes
	w.run(2 * time.Minute)
	for name, v := range w.versions() {
		if v != before[name] {
			t.Errorf("the record of %v went from version %d to %d", name, before[name], v)
		}
	}
	perPeer := float64(w.bytes-bytes) / 120 / 60
	if perPeer > 4096 {
		t.Errorf("%.0f bytes a second for each peer, in %d frames", perPeer, w.frames-frames)
	}
}

// What a leaf must be to full participants: no route, no change, no trouble.
func TestALeafDisturbsNobody(t *testing.T) { // A13 (ii-a)
	w := newWorld(t, 3)
	w.mesh(60, 0, 1, 2)
	w.run(time.Minute)
	before := w.versions()

	leaf := w.add(Config{Node: "leaf", Leaf: true, Links: 3}, 0, 1, 2)
	w.until(5*time.Second, func() bool { return len(leaf.links) == 3 && leaf.synced })
	leaf.put("dns/local/A/api.internal.test.k8s.local", "10.0.0.9")
	took := w.until(time.Second, func() bool {
		return w.all(func(n *node) bool { return n.has("dns/local/A/api.internal.test.k8s.local", "10.0.0.9") })
	})
	t.Logf("the leaf's record reached all 60 in %v", took)

	w.run(2 * time.Minute)
	for _, n := range w.nodes[:60] {
		r := n.route(w.now)
		for i, hop := range r.hop {
			if hop != none && r.peers[hop].name == leaf.table.self.name && r.peers[i].name != leaf.table.self.name {
				t.Errorf("node %d sends what is for %s through the leaf", n.id, r.peers[i].nick)
			}
		}
	}
	leaf.kill()
	w.run(time.Minute)
	for name, v := range w.versions() {
		if v != before[name] {
			t.Errorf("the record of %v went from version %d to %d because of a leaf", name, before[name], v)
		}
	}
	w.nodes[10].put("k", "after")
	w.until(time.Second, func() bool { return w.all(func(n *node) bool { return n.has("k", "after") }) })
}

func TestALeafHearsEverything(t *testing.T) {
	w := newWorld(t, 4)
	w.mesh(30, 0, 1, 2)
	w.nodes[5].put("old", "v")
	w.run(2 * time.Second)
	leaf := w.add(Config{Node: "leaf", Leaf: true, Links: 1}, 0)
	w.until(3*time.Second, func() bool { return leaf.has("old", "v") })
	w.nodes[7].put("new", "v")
	w.until(2*time.Second, func() bool { return leaf.has("new", "v") })
	if got := len(leaf.Peers()); got != 31 {
		t.Errorf("the leaf knows %d peers, want 31", got)
	}
}

func TestSurvivorsStayConnected(t *testing.T) {
	w := newWorld(t, 5)
	w.mesh(40, 0, 1, 2)
	for i := range 40 {
		if i%2 == 0 { // all seeds but one among them
			w.nodes[i].kill()
		}
	}
	w.run(50 * time.Second)
	w.until(30*time.Second, w.joined)
	w.nodes[1].put("k", "v")
	w.until(2*time.Second, func() bool { return w.all(func(n *node) bool { return n.has("k", "v") }) })
	if got := len(w.nodes[1].Peers()); got != 20 {
		t.Errorf("%d peers known after half of 40 died, want 20", got)
	}
}

func TestSeedsJoinPartsThatDoNotKnowEachOther(t *testing.T) {
	w := newWorld(t, 6)
	for range 10 {
		w.add(Config{}, 0)
	}
	for range 10 {
		w.add(Config{}, 10)
	}
	w.run(10 * time.Second)
	if n := w.nodes[19].route(w.now).size; n != 10 {
		t.Fatalf("the second part has %d peers, want 10", n)
	}
	w.nodes[3].put("left", "v")
	w.nodes[13].put("right", "v")
	w.run(time.Second)
	w.nodes[5].SetSeeds(w.now, append(seedAddrs(1), simAddr(10)))
	w.nodes[5].settle()
	w.until(40*time.Second, w.joined)
	w.until(2*time.Second, func() bool {
		return w.all(func(n *node) bool { return n.has("left", "v") && n.has("right", "v") })
	})
}

func TestARestartedPeerIsBelievedAgain(t *testing.T) {
	w := newWorld(t, 7)
	w.mesh(12, 0, 1, 2)
	old := w.nodes[8]
	old.kill()
	w.run(time.Second) // less than it takes to forget it
	reborn := New(Config{Node: "node-8", UID: 4711, Discover: true, Rand: old.cfg.Rand}, w.now)
	n := &node{Mesh: reborn, w: w, id: 8, addr: old.addr, conns: make(map[LinkID]*end)}
	w.nodes[8], w.listen[n.addr] = n, n
	n.SetListen(n.addr)
	n.SetSeeds(w.now, seedAddrs(1))
	n.settle()
	w.until(30*time.Second, w.joined)
	w.run(5 * time.Second)
	for _, x := range w.nodes {
		p := x.table.peers[nameOf(8)]
		if p.uid != 4711 || p.version != reborn.table.self.version {
			t.Errorf("node %d believes in version %d of UID %d, want %d of 4711", x.id, p.version, p.uid, reborn.table.self.version)
		}
	}
}

// Whatever happens, once it stops all live peers hold the same state.
func TestPeersConvergeAfterAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(rt, "seed"))
		for range rapid.IntRange(2, 8).Draw(rt, "peers") {
			w.add(Config{}, 0, 1)
		}
		w.run(5 * time.Second)
		writes := 0
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			n := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node")]
			step := rapid.IntRange(0, 9).Draw(rt, "step")
			if step <= 5 {
				w.run(time.Second) // or two peers may write the same version
			}
			switch {
			case n.dead || step <= 5 && !n.synced:
			case step < 5:
				writes++
				n.put(fmt.Sprint("k", step), fmt.Sprint(writes))
			case step == 5:
				if err := n.Delete(w.now, "k0"); err != nil {
					rt.Fatal(err)
				}
				n.settle()
			case step == 6 && n.id > 1: // seeds live
				n.kill()
			case step == 7:
				w.add(Config{Leaf: rapid.Bool().Draw(rt, "leaf"), Links: 2}, 0, 1)
			}
			w.run(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
		}
		w.run(2 * time.Minute)
		want := string(w.nodes[0].state.Append(nil))
		for _, n := range w.nodes {
			if got := string(n.state.Append(nil)); !n.dead && got != want {
				rt.Fatalf("node %d (leaf: %v) holds %v, node 0 %v", n.id, n.cfg.Leaf, n.state.Entries(), w.nodes[0].state.Entries())
			}
		}
	})
}
