package netns

import (
	"fmt"
	"net/netip"
)

// pool hands out the addresses of a network. The caller locks.
type pool struct {
	prefix netip.Prefix
	last   netip.Addr // the last one handed out by count
	taken  map[netip.Addr]bool
}

func newPool(prefix netip.Prefix) pool {
	prefix = prefix.Masked()
	return pool{prefix: prefix, last: prefix.Addr(), taken: make(map[netip.Addr]bool)}
}

// take takes the wanted address or, when that is invalid, the next one that
// has never been handed out.
func (p *pool) take(wanted netip.Addr) (netip.Addr, error) {
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

// usable tells whether the address can be a node's: neither the network's
// first, which names the network, nor its last, which is IPv4's broadcast.
func (p *pool) usable(addr netip.Addr) bool {
	return p.prefix.Contains(addr) && addr != p.prefix.Addr() && p.prefix.Contains(addr.Next())
}

// give takes an address back. Only a caller that asks for it gets it again.
func (p *pool) give(addr netip.Addr) { delete(p.taken, addr) }
