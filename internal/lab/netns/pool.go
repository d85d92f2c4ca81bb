package netns

import (
	"fmt"
	"net/netip"
)

// pool allocates the addresses of a network. The caller locks.
type pool struct {
	prefix netip.Prefix
	last   netip.Addr // the last address allocated in sequence
	taken  map[netip.Addr]bool
}

func newPool(prefix netip.Prefix) pool {
	prefix = prefix.Masked()
	return pool{prefix: prefix, last: prefix.Addr(), taken: make(map[netip.Addr]bool)}
}

// allocate allocates the wanted address or, if that is invalid, the next one never allocated before.
func (p *pool) allocate(wanted netip.Addr) (netip.Addr, error) {
	if !wanted.IsValid() {
		return p.next()
	}
	if !p.usable(wanted) {
		return netip.Addr{}, fmt.Errorf("address %s is not one for a node in %s", wanted, p.prefix)
	}
	if p.taken[wanted] {
		return netip.Addr{}, fmt.Errorf("address %s is taken", wanted)
	}
	p.taken[wanted] = true
	return wanted, nil
}

func (p *pool) next() (netip.Addr, error) {
	for {
		candidate := p.last.Next()
		if !p.usable(candidate) {
			return netip.Addr{}, fmt.Errorf("no address is left in %s", p.prefix)
		}
		p.last = candidate
		if !p.taken[candidate] {
			p.taken[candidate] = true
			return candidate, nil
		}
	}
}

// usable reports whether addr can be a node's: neither the first of the network nor the last, which is IPv4's
// broadcast address.
func (p *pool) usable(addr netip.Addr) bool {
	return p.prefix.Contains(addr) && addr != p.prefix.Addr() && p.prefix.Contains(addr.Next())
}

// release releases an address. It is only allocated again on explicit request.
func (p *pool) release(addr netip.Addr) { delete(p.taken, addr) }
