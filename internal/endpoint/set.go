package endpoint

import (
	"net/netip"
	"slices"
	"strings"
)

// Set is the endpoints that serve a name now, in the order in which to try them. It is immutable and has at least one
// endpoint, except for the zero value, which means "none yet".
type Set struct {
	endpoints []Endpoint
	draining  []netip.AddrPort
	isolated  bool
}

// Endpoints returns a copy of the set's members in order.
func (s Set) Endpoints() []Endpoint { return slices.Clone(s.endpoints) }

// Addrs returns the addresses in order.
func (s Set) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(s.endpoints))
	for i, e := range s.endpoints {
		addrs[i] = e.Addr
	}
	return addrs
}

// Len returns the number of members: zero only for the zero value.
func (s Set) Len() int { return len(s.endpoints) }

// Draining returns the addresses that are not in the set because they are draining. Their open connections may go on
// for a while.
func (s Set) Draining() []netip.AddrPort { return slices.Clone(s.draining) }

// Isolated reports whether every known address looks down. The fault is then more likely on this node than on all
// servers, so callers should change nothing that outlives it.
func (s Set) Isolated() bool { return s.isolated }

// SameAddrs reports whether both sets hold the same addresses in the same order.
func (s Set) SameAddrs(o Set) bool { return slices.Equal(s.Addrs(), o.Addrs()) }

// String renders the addresses for logs.
func (s Set) String() string {
	parts := make([]string, len(s.endpoints))
	for i, e := range s.endpoints {
		parts[i] = e.Addr.String()
	}
	return strings.Join(parts, " ")
}
