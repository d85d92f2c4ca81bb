package node

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/hosts"
)

// adoptEvery is the time between two looks at a hosts file in which nothing to
// adopt was found: kOps writes it once, while the node boots.
const adoptEvery = time.Second

// adopt takes over what kOps wrote into the hosts block, for the services that
// ask for it: the addresses with which the node came up, so that no address of
// the configuration, however wrong, can take the place of one that works. Only
// then does the block change hands.
func (n *Node) adopt(ctx context.Context) error {
	tick := time.NewTicker(adoptEvery)
	defer tick.Stop()
	for !n.adoptAll() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	close(n.adopted)
	return nil
}

// adoptAll looks into the hosts file once and reports whether every service has
// what it waits for, from there or from an earlier life.
func (n *Node) adoptAll() bool {
	var content []byte
	done := true
	for _, s := range n.cfg.Services {
		if s.AdoptPort == 0 {
			continue
		}
		if content == nil {
			var err error
			if content, err = os.ReadFile(n.cfg.Hosts.Path); err != nil {
				n.log.Warn("look into the hosts file for addresses to adopt", "err", err)
			}
		}
		all, err := n.memory.adopt(s.Name, adoptable(content, n.cfg.FullName(s.Name), s.AdoptPort))
		if err != nil {
			n.log.Error("keep adopted addresses", "service", s.Name, "err", err)
		}
		if len(all) == 0 {
			done = false
			continue
		}
		n.view.learn(s.Name, endpoint.Boot, union(s.Addresses, all))
	}
	return done
}

// adoptable returns the addresses of a name in the block of a hosts file, without
// those of the machine itself.
func adoptable(content []byte, name string, port uint16) (addrs []netip.AddrPort) {
	for _, e := range hosts.Parse(content).Entries {
		named := slices.ContainsFunc(e.Names, func(n string) bool { return strings.EqualFold(n, name) })
		if named && !e.Addr.IsLoopback() && !e.Addr.IsUnspecified() {
			addrs = append(addrs, netip.AddrPortFrom(e.Addr, port))
		}
	}
	return addrs
}

// union returns a with what b has besides.
func union(a, b []netip.AddrPort) []netip.AddrPort {
	all := slices.Clone(a)
	for _, addr := range b {
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all
}
