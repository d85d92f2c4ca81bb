// Package endpoint decides which addresses serve a name now.
//
// A [Table] collects the addresses of one name from every source, and their health; [Table.Serving] turns them into a
// [Set], the ordered addresses that the hosts block lists and the local balancer dials. A Set is never empty: a
// change that would empty it is refused with [ErrEmpty], and the last good set stays, because a node without an
// endpoint can never learn a new one.
//
// The package is pure: no I/O and no clock.
package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ErrEmpty is returned where no address would be left.
var ErrEmpty = errors.New("no address left; the last good endpoint set stays")

// Source says where an address was learned.
type Source uint8

// The sources, most trustworthy first. Overlay to Self are live: they follow changes of the control plane. Balancer
// is one address for the whole control plane. Boot, DNS and Disk are remembered: they were right once.
const (
	Overlay  Source = iota // records of the gossip overlay
	Stream                 // the stream of a control-plane node
	Slice                  // the kubernetes EndpointSlice
	Self                   // this node's own API server
	Balancer               // a load balancer from the configuration
	Boot                   // the configuration that the node was created with
	DNS                    // SRV records, of servers whose certificates were verified
	Disk                   // the last good set, kept across restarts
)

var sourceNames = [...]string{"overlay", "stream", "endpointslice", "self", "load-balancer", "boot", "dns", "disk"}

// String returns the source's name as in status output.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}

// MarshalText encodes the source's name, for JSON.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (s *Source) UnmarshalText(b []byte) error {
	i := slices.Index(sourceNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("unknown endpoint source %q", b)
	}
	*s = Source(i)
	return nil
}

// tier groups sources by preference.
type tier uint8

const (
	tierLive tier = iota
	tierBalancer
	tierRemembered
)

func (s Source) tier() tier {
	switch s {
	case Balancer:
		return tierBalancer
	case Boot, DNS, Disk:
		return tierRemembered
	default:
		return tierLive
	}
}

// Health is the state of one address, from checks and connections.
type Health uint8

// Unknown counts as usable: a new node has checked nothing yet. A Draining server answers but wants no new work, like
// an API server that is shutting down or still starting.
const (
	Unknown Health = iota
	Up
	Down
	Draining
)

// String returns the health as in status output.
func (h Health) String() string {
	switch h {
	case Up:
		return "up"
	case Down:
		return "down"
	case Draining:
		return "draining"
	default:
		return "unknown"
	}
}

// Away reports whether a server should get no new work.
func (h Health) Away() bool { return h == Down || h == Draining }

// MarshalText encodes the health's name, for JSON.
func (h Health) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (h *Health) UnmarshalText(b []byte) error {
	for _, v := range []Health{Unknown, Up, Down, Draining} {
		if v.String() == string(b) {
			*h = v
			return nil
		}
	}
	return fmt.Errorf("unknown health %q", b)
}

// Endpoint is one address with its sources and health.
type Endpoint struct {
	Addr    netip.AddrPort `json:"addr"`
	Sources []Source       `json:"sources"` // at least one, in Source order
	Health  Health         `json:"health"`
	Near    bool           `json:"near,omitempty"` // see Table.Prefer
}

// tier is the best tier of any of e's sources.
func (e Endpoint) tier() tier {
	best := tierRemembered
	for _, s := range e.Sources {
		best = min(best, s.tier())
	}
	return best
}

// Live reports whether a live source has e.
func (e Endpoint) Live() bool { return e.tier() == tierLive }

// IsBalancer reports whether e is a load balancer's address that no live source has.
func (e Endpoint) IsBalancer() bool { return e.tier() == tierBalancer }

// String renders e for logs: address, health and sources.
func (e Endpoint) String() string {
	names := make([]string, len(e.Sources))
	for i, s := range e.Sources {
		names[i] = s.String()
	}
	return fmt.Sprintf("%s (%s, %s)", e.Addr, e.Health, strings.Join(names, "+"))
}
