package mesh

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/muster-dev/muster/internal/overlay/weave/wire"
)

// routes computes where frames go, for one state of the topology. Peers are numbered in the order of their names, in
// which the protocol visits peers of equal distance.
type routes struct {
	table *table
	peers []*peer
	index map[*peer]int32
	first []int32 // index in to of the first neighbour of each peer
	to    []int32

	hop  []int32               // first hop to each peer; none for self and unreachable ones
	size int                   // peers reachable from self, self included
	hops map[wire.Name][]int32 // neighbours to relay a broadcast to, by origin

	symmetric map[*peer]bool // computed when needed

	mark        []uint32 // peers reached in walk number mark[i]
	walks       uint32
	level, next []int32
}

const none = int32(-1)

func newRoutes(t *table) *routes {
	r := &routes{table: t, index: make(map[*peer]int32, len(t.peers)), hops: make(map[wire.Name][]int32)}
	for _, p := range t.peers {
		r.peers = append(r.peers, p)
	}
	slices.SortFunc(r.peers, func(a, b *peer) int { return a.name.Compare(b.name) })
	for i, p := range r.peers {
		r.index[p] = int32(i)
	}
	r.first = make([]int32, 0, len(r.peers)+1)
	for _, p := range r.peers {
		r.first = append(r.first, int32(len(r.to)))
		if p == t.self {
			// Where our frames can go we know better than our own record says.
			for i, q := range r.peers {
				if q.link != nil {
					r.to = append(r.to, int32(i))
				}
			}
			continue
		}
		for _, e := range p.edges {
			r.to = append(r.to, r.index[e.to])
		}
	}
	r.first = append(r.first, int32(len(r.to)))
	r.mark = make([]uint32, len(r.peers))
	r.hop = make([]int32, len(r.peers))
	for i := range r.hop {
		r.hop[i] = none
	}
	self := r.index[t.self]
	r.size = 1
	r.walk(self, none, func(from, to int32) {
		r.size++
		if r.hop[to] = r.hop[from]; from == self {
			r.hop[to] = to
		}
	})
	return r
}

// walk searches breadth-first from start until it visits stop, and reports whether it did. reachedIn tells which
// peers it has reached by then, until the next walk. It calls step for each peer when it is reached.
func (r *routes) walk(start, stop int32, step func(from, to int32)) bool {
	r.walks++
	r.mark[start] = r.walks
	r.level = append(r.level[:0], start)
	for len(r.level) > 0 {
		slices.Sort(r.level)
		r.next = r.next[:0]
		for _, p := range r.level {
			if p == stop {
				return true
			}
			for _, q := range r.to[r.first[p]:r.first[p+1]] {
				if r.mark[q] != r.walks {
					r.mark[q] = r.walks
					r.next = append(r.next, q)
					if step != nil {
						step(p, q)
					}
				}
			}
		}
		r.level, r.next = r.next, r.level
	}
	return false
}

func (r *routes) reachedIn(p int32) bool { return r.mark[p] == r.walks }

// unicast returns our neighbour on the path to the named peer, or nil.
func (r *routes) unicast(to wire.Name) *peer {
	p := r.table.peers[to]
	i, ok := r.index[p]
	if !ok || r.hop[i] == none {
		return nil
	}
	return r.peers[r.hop[i]]
}

// broadcast returns our neighbours that depend on us for broadcasts of origin: those that are not reached from origin
// before us.
func (r *routes) broadcast(origin wire.Name) []*peer {
	hops, known := r.hops[origin]
	if !known {
		hops = r.broadcastHops(origin)
		r.hops[origin] = hops
	}
	peers := make([]*peer, len(hops))
	for i, h := range hops {
		peers[i] = r.peers[h]
	}
	return peers
}

func (r *routes) broadcastHops(origin wire.Name) (hops []int32) {
	start, known := r.index[r.table.peers[origin]]
	self := r.index[r.table.self]
	if !known || !r.walk(start, self, nil) {
		return nil
	}
	for _, q := range r.to[r.first[self]:r.first[self+1]] {
		if start == self || !r.reachedIn(q) {
			hops = append(hops, q)
		}
	}
	return hops
}

// pickNeighbours picks the neighbours to gossip to, except the given one: about 2*log2 of the number of peers, each
// weighted by the number of peers that are reached over it.
func (r *routes) pickNeighbours(rng *rand.Rand, except *peer) []*peer {
	weights := make(map[int32]int)
	total := 0
	for _, h := range r.hop {
		if h != none && r.peers[h] != except {
			weights[h]++
			total++
		}
	}
	candidates := make([]int32, 0, len(weights))
	for h := range weights {
		candidates = append(candidates, h)
	}
	slices.Sort(candidates)
	n := min(int(2*math.Log2(float64(r.size))), len(candidates))
	drawn := make([]*peer, 0, n)
	for range n {
		at := rng.IntN(total)
		i := 0
		for ; at >= weights[candidates[i]]; i++ {
			at -= weights[candidates[i]]
		}
		drawn = append(drawn, r.peers[candidates[i]])
		total -= weights[candidates[i]]
		candidates = slices.Delete(candidates, i, i+1)
	}
	return drawn
}

// isRouted reports whether p is reachable over connections that both ends claim as established. The protocol sends
// its whole state only to new neighbours that are not.
func (r *routes) isRouted(p *peer) bool {
	if r.symmetric == nil {
		r.symmetric = r.reachSymmetric()
	}
	return r.symmetric[p]
}

func (r *routes) reachSymmetric() map[*peer]bool {
	type pair struct{ from, to *peer }
	established := make(map[pair]bool, len(r.to))
	for _, p := range r.peers {
		for _, e := range p.edges {
			if e.established {
				established[pair{p, e.to}] = true
			}
		}
	}
	reached := map[*peer]bool{r.table.self: true}
	queue := []*peer{r.table.self}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for _, e := range p.edges {
			if e.established && !reached[e.to] && established[pair{e.to, p}] {
				reached[e.to] = true
				queue = append(queue, e.to)
			}
		}
	}
	return reached
}
