// Package endpoint decides which addresses serve a name now.
//
// A [Table] collects what every source says about one name and how healthy
// each address looks; [Table.Serving] turns that into a [Set], the ordered
// addresses that the hosts block lists and the local balancer dials. A Set is
// never empty: what would empty it is refused with [ErrEmpty] and the last good
// answer stays, because a node without an endpoint can never learn a new one.
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

// ErrEmpty is returned for an answer without a single address.
var ErrEmpty = errors.New("no address left; the last good endpoint set stays")

// Source says where an address is known from.
type Source uint8

// The sources, most trustworthy first. Overlay to Self are live: they change
// when the control plane does. Balancer is an address that stands for the whole
// control plane. Boot, DNS and Disk are memories: true once.
const (
	Overlay  Source = iota // records of the gossip overlay
	Stream                 // the stream of a control-plane node
	Slice                  // the kubernetes EndpointSlice
	Self                   // this node's own API server
	Balancer               // a load balancer from the configuration
	Boot                   // the configuration the node was born with
	DNS                    // SRV records, of servers that have proven themselves
	Disk                   // the last good set, kept across restarts
)

var sourceNames = [...]string{"overlay", "stream", "endpointslice", "self", "load-balancer", "boot", "dns", "disk"}

// String returns the source's name as it stands in status output.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return fmt.Sprintf("source(%d)", uint8(s))
}

// MarshalText lets sources stand in JSON by name.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Source) UnmarshalText(b []byte) error {
	i := slices.Index(sourceNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("unknown endpoint source %q", b)
	}
	*s = Source(i)
	return nil
}

// tier groups sources by how they are preferred.
type tier uint8

const (
	tierLive tier = iota
	tierBalancer
	tierMemory
)

func (s Source) tier() tier {
	switch s {
	case Balancer:
		return tierBalancer
	case Boot, DNS, Disk:
		return tierMemory
	default:
		return tierLive
	}
}

// Health is what checks and connections have shown of one address.
type Health uint8

// Unknown counts as usable: a fresh node has checked nothing yet. A Draining
// server answers and asks not to be given more work, as an API server does that
// is about to stop or has not yet started.
const (
	Unknown Health = iota
	Up
	Down
	Draining
)

// String returns the health as it stands in status output.
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

// Away reports that a server is not to be given more work.
func (h Health) Away() bool { return h == Down || h == Draining }

// MarshalText lets health stand in JSON by name.
func (h Health) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Health) UnmarshalText(b []byte) error {
	for _, v := range []Health{Unknown, Up, Down, Draining} {
		if v.String() == string(b) {
			*h = v
			return nil
		}
	}
	return fmt.Errorf("unknown health %q", b)
}

// Endpoint is one address with where it came from and how healthy it is.
type Endpoint struct {
	Addr    netip.AddrPort `json:"addr"`
	Sources []Source       `json:"sources"` // at least one, in Source order
	Health  Health         `json:"health"`
	Near    bool           `json:"near,omitempty"` // see Table.Prefer
}

// tier is the best tier of any of e's sources.
func (e Endpoint) tier() tier {
	best := tierMemory
	for _, s := range e.Sources {
		best = min(best, s.tier())
	}
	return best
}

// Live reports whether a source that changes with the control plane names e.
func (e Endpoint) Live() bool { return e.tier() == tierLive }

// IsBalancer reports whether e is known only as a load balancer's address.
func (e Endpoint) IsBalancer() bool { return e.tier() == tierBalancer }

// String renders e for logs: address, health and provenance.
func (e Endpoint) String() string {
	names := make([]string, len(e.Sources))
	for i, s := range e.Sources {
		names[i] = s.String()
	}
	return fmt.Sprintf("%s (%s, %s)", e.Addr, e.Health, strings.Join(names, "+"))
}
