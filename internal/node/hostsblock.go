package node

import (
	"net/netip"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/hosts"
)

// A hostsBlock is what the view means for the hosts file. It belongs to the
// keeper of the file, which calls it from one goroutine.
type hostsBlock struct {
	view     *view
	adopted  <-chan struct{}          // until it is closed, the block is another's
	services []hostsService           // in the order of the file
	last     map[string][]hosts.Entry // by service: what the block says
}

type hostsService struct {
	service string
	names   []string // full
}

// entries lists the set's addresses in order, each once: two ports of one
// machine are one line in a hosts file.
func (s hostsService) entries(set endpoint.Set) []hosts.Entry {
	var entries []hosts.Entry
	seen := make(map[netip.Addr]bool)
	for _, a := range set.Addrs() {
		if !seen[a.Addr()] {
			seen[a.Addr()] = true
			entries = append(entries, hosts.Entry{Addr: a.Addr(), Names: s.names})
		}
	}
	return entries
}

// want returns the entries of the block. A service of which this node can reach
// no server at all keeps its lines: the fault is more likely here.
func (b *hostsBlock) want() ([]hosts.Entry, <-chan struct{}) {
	select {
	case <-b.adopted:
	default:
		return nil, b.adopted
	}
	sets, _, changed := b.view.snapshot()
	var entries []hosts.Entry
	for _, s := range b.services {
		set, ok := sets[s.service]
		if ok && (!set.Isolated() || b.last[s.service] == nil) {
			b.last[s.service] = s.entries(set)
		}
		entries = append(entries, b.last[s.service]...)
	}
	return entries, changed
}
