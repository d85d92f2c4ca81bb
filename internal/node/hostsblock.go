package node

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/hosts"
)

// A hostsBlock is what the view means for the hosts file. It belongs to the
// keeper of the file, which calls it from one goroutine.
type hostsBlock struct {
	view     *view
	adopted  <-chan struct{}          // until it is closed, the block is another's
	settled  <-chan struct{}          // until it is closed, the block of an earlier life is worth more
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
	for _, wait := range []<-chan struct{}{b.adopted, b.settled} {
		select {
		case <-wait:
		default:
			return nil, wait
		}
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

// settleAtMost is how long a block that has the node's names stays as it is while the
// servers are checked for the first time: longer than it takes to find one dead that
// does not answer.
const settleAtMost = 3 * time.Second

// settle waits until it is known of each server whether it is up. A daemon that is
// started anew would otherwise put servers into the block of which its predecessor
// knew that they are dead, perhaps as the first.
func (n *Node) settle(ctx context.Context) error {
	defer close(n.settled)
	if !n.inHostsBlock() {
		return nil // any address is better than none
	}
	late := time.NewTimer(settleAtMost)
	defer late.Stop()
	for {
		_, _, changed := n.view.snapshot()
		if n.allChecked() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-late.C:
			return nil
		case <-changed:
		}
	}
}

// inHostsBlock reports whether the block has an address for every service already.
func (n *Node) inHostsBlock() bool {
	content, err := os.ReadFile(n.cfg.Hosts.Path)
	if err != nil {
		return false // the keeper says why
	}
	return !slices.ContainsFunc(n.cfg.Services, func(s Service) bool {
		return len(adoptable(content, n.cfg.FullName(s.Name), 1)) == 0
	})
}

func (n *Node) allChecked() bool {
	for _, s := range n.cfg.Services {
		known := n.view.known(s.Name)
		if len(known) == 0 || slices.ContainsFunc(known, func(e endpoint.Endpoint) bool { return e.Health == endpoint.Unknown }) {
			return false
		}
	}
	return true
}
