package balance

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Stats is what a Balancer has done since it was made.
type Stats struct {
	// Servers has the members in the order of the set, then servers that left
	// and still have connections. A server that comes back starts at zero.
	Servers []ServerStats

	Active       int    // clients joined to a server now
	Accepted     uint64 // connections from clients
	Failed       uint64 // clients for whom no server was found
	DialFailures uint64 // dials that failed or were overtaken after hanging
	BytesIn      uint64 // from clients to servers; see ServerStats
	BytesOut     uint64 // from servers to clients; see ServerStats
}

// ServerStats is one server's part of Stats.
type ServerStats struct {
	Addr         netip.AddrPort
	Active       int    // connections now
	Total        uint64 // connections ever
	DialFailures uint64
	// BytesIn and BytesOut are counted as they are passed on.
	BytesIn, BytesOut uint64
	LastError         string // of the last dial that failed; "" for none
	LastErrorAt       time.Time
}

// Stats returns the counters of now.
func (b *Balancer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Stats{
		Accepted:     b.accepted.Load(),
		Failed:       b.failed.Load(),
		DialFailures: b.failures,
		BytesIn:      b.bytesIn.Load(),
		BytesOut:     b.bytesOut.Load(),
	}
	for _, s := range b.servers {
		out.Active += len(s.links)
		out.Servers = append(out.Servers, ServerStats{
			Addr:         s.addr,
			Active:       len(s.links),
			Total:        s.total,
			DialFailures: s.failures,
			BytesIn:      s.bytesIn.Load(),
			BytesOut:     s.bytesOut.Load(),
			LastError:    s.lastError,
			LastErrorAt:  s.lastErrorAt,
		})
	}
	place := make(map[netip.AddrPort]int)
	for i, addr := range b.set.Addrs() {
		place[addr] = i
	}
	slices.SortFunc(out.Servers, func(x, y ServerStats) int {
		px, memberX := place[x.Addr]
		py, memberY := place[y.Addr]
		return cmp.Or(compareBool(!memberX, !memberY), cmp.Compare(px, py), x.Addr.Compare(y.Addr))
	})
	return out
}
