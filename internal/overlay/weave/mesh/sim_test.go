package mesh

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// world runs any number of peers in virtual time over a network that delivers
// in order on each connection and late at random. It is deterministic.
type world struct {
	t      testing.TB
	now    time.Time
	rng    *rand.Rand
	events eventHeap
	seq    int
	nodes  []*node
	listen map[netip.AddrPort]*node
	frames int
	bytes  int
	tap    func([]byte)
}

// node is a peer with its connections.
type node struct {
	*Mesh
	w     *world
	id    int
	addr  netip.AddrPort
	dead  bool
	conns map[LinkID]*end
	wake  time.Time
}

// end is one end of a connection.
type end struct {
	node   *node
	id     LinkID // 0 until registered
	other  *end
	queue  [][]byte // arrived before registration
	closed bool
	last   time.Time // when the latest frame towards the other end arrives
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	e := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return e
}

var epoch = time.Unix(1795394888, 0)

func newWorld(t testing.TB, seed uint64) *world {
	return &world{t: t, now: epoch, rng: rand.New(rand.NewPCG(seed, 1)), listen: make(map[netip.AddrPort]*node)}
}

const simPort = 3999

func simAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), simPort)
}

// add starts a peer. It listens at simAddr(id) unless it is a leaf.
func (w *world) add(cfg Config, seeds ...int) *node {
	id := len(w.nodes)
	if cfg.Node == "" {
		cfg.Node = fmt.Sprintf("node-%d", id)
	}
	cfg.UID = w.rng.Uint64() | 1
	cfg.Discover = true
	cfg.Rand = rand.New(rand.NewPCG(w.rng.Uint64(), 2))
	n := &node{Mesh: New(cfg, w.now), w: w, id: id, addr: simAddr(id), conns: make(map[LinkID]*end)}
	w.nodes = append(w.nodes, n)
	if !cfg.Leaf {
		w.listen[n.addr] = n
	}
	n.SetListen(n.addr)
	var addrs []netip.AddrPort
	for _, s := range seeds {
		addrs = append(addrs, simAddr(s))
	}
	n.SetSeeds(w.now, addrs)
	n.settle()
	return n
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now.Add(d), w.seq, do})
}

func (w *world) latency() time.Duration { return time.Millisecond + time.Duration(w.rng.Int64N(2e6)) }

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(end) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

// until runs until ok holds, and returns how long that took.
func (w *world) until(limit time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	start := w.now
	for !ok() {
		if w.now.Sub(start) > limit {
			w.t.Fatalf("not within %v", limit)
		}
		w.run(5 * time.Millisecond)
	}
	return w.now.Sub(start)
}

// settle does what the peer asks for after a call.
func (n *node) settle() {
	if n.dead {
		return
	}
	e := n.TakeEffects()
	for _, c := range e.Close {
		if end := n.conns[c.ID]; end != nil {
			end.close()
		}
	}
	for _, addr := range e.Dial {
		n.w.after(n.w.latency(), func() { n.dial(addr) })
	}
	for _, id := range e.Ready {
		n.send(id)
	}
	if at := n.NextTick(); !at.Equal(n.wake) {
		n.wake = at
		n.w.after(max(0, at.Sub(n.w.now)), func() {
			if !n.dead && n.wake.Equal(at) {
				n.wake = time.Time{}
				n.Tick(n.w.now)
				n.settle()
			}
		})
	}
}

func (n *node) send(id LinkID) {
	conn := n.conns[id]
	for conn != nil && !conn.closed {
		frame := n.Next(n.w.now, id)
		if frame == nil {
			return
		}
		n.w.frames++
		if n.w.tap != nil {
			n.w.tap(frame)
		}
		n.w.bytes += len(frame) + 20
		conn.carry(func(to *end) { to.arrive(frame) })
	}
}

// carry has do happen at the other end after what was sent before.
func (e *end) carry(do func(*end)) {
	w := e.node.w
	at := w.now.Add(w.latency())
	if at.Before(e.last) {
		at = e.last
	}
	e.last = at
	w.after(at.Sub(w.now), func() { do(e.other) })
}

func (e *end) arrive(frame []byte) {
	switch {
	case e.closed || e.node.dead:
	case e.id == 0:
		e.queue = append(e.queue, frame)
	default:
		p, err := Parse(frame)
		if err == nil {
			err = e.node.Receive(e.node.w.now, e.id, p)
		}
		if err != nil {
			e.close()
		}
		e.node.settle()
	}
}

func (e *end) close() {
	if e.closed {
		return
	}
	e.closed = true
	delete(e.node.conns, e.id)
	e.carry(func(other *end) { other.close() })
	if e.id != 0 && !e.node.dead {
		e.node.Close(e.node.w.now, e.id)
		e.node.settle()
	}
}

func (n *node) dial(addr netip.AddrPort) {
	to := n.w.listen[addr]
	if n.dead {
		return
	}
	if to == nil || to.dead {
		n.Failed(n.w.now, addr, errors.New("connection refused"))
		n.settle()
		return
	}
	near, far := &end{node: n}, &end{node: to}
	near.other, far.other = far, near
	a, b := n.Features(n.w.rng.Uint64()), to.Features(n.w.rng.Uint64())
	source := netip.AddrPortFrom(n.addr.Addr(), uint16(10000+n.w.rng.IntN(50000)))
	far.register(Hello{Remote: a, ConnID: b.ConnID, Addr: source.String()})
	n.w.after(n.w.latency(), func() {
		near.register(Hello{Remote: b, ConnID: a.ConnID, Addr: addr.String(), Outbound: true, Target: addr})
	})
}

func (e *end) register(h Hello) {
	if e.node.dead {
		return
	}
	id, err := e.node.Register(e.node.w.now, h)
	if err != nil || e.closed {
		if err != nil && h.Outbound {
			e.node.Failed(e.node.w.now, h.Target, err)
		}
		if err == nil {
			e.node.Close(e.node.w.now, id)
		}
		e.closed = false
		e.close()
		e.node.settle()
		return
	}
	e.id = id
	e.node.conns[id] = e
	queue := e.queue
	e.queue = nil
	for _, frame := range queue {
		e.arrive(frame)
	}
	e.node.settle()
}

// kill ends a peer without a word; its connections break.
func (n *node) kill() {
	n.dead = true
	delete(n.w.listen, n.addr)
	for _, e := range n.conns {
		e.closed = true
		e.carry(func(other *end) { other.close() })
	}
}

func (n *node) has(key, value string) bool {
	r, ok := n.state.Get(key)
	return ok && r.Value == value
}

func (n *node) put(key, value string) {
	n.w.t.Helper()
	if err := n.Put(n.w.now, key, value); err != nil {
		n.w.t.Fatal(err)
	}
	n.settle()
}

// all reports whether every live node satisfies ok.
func (w *world) all(ok func(*node) bool) bool {
	for _, n := range w.nodes {
		if !n.dead && !ok(n) {
			return false
		}
	}
	return true
}

// joined reports whether the peers all know and reach each other.
func (w *world) joined() bool {
	live := 0
	for _, n := range w.nodes {
		if !n.dead && !n.cfg.Leaf {
			live++
		}
	}
	return w.all(func(n *node) bool {
		return n.cfg.Leaf || len(n.table.participants()) == live && n.route(w.now).size >= live
	})
}

// mesh starts n full participants with the given seeds and waits until they
// have joined and the topology is at rest.
func (w *world) mesh(n int, seeds ...int) time.Duration {
	w.t.Helper()
	for range n {
		w.add(Config{}, seeds...)
	}
	took := w.until(2*time.Minute, w.joined)
	w.run(20 * time.Second)
	return took
}

func nameOf(i int) wire.Name { return wire.NameOf(fmt.Sprintf("node-%d", i)) }
