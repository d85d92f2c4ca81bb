package legacy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Channel is the name under which both overlays carry the state: the gossip
// channel of weave mesh, the part key of the memberlist overlay.
const Channel = "dns"

// Zone is the only zone that kOps uses.
const Zone = "local"

// Record types in use. Only A and AAAA reach a hosts file.
const (
	TypeA    = "A"
	TypeAAAA = "AAAA"
	TypeNS   = "NS"
)

// The zone marker. kOps's dns-controller does not publish anything before it
// sees this record, so whoever stands in for protokube has to write it.
const (
	MarkerKey   = "dns/local/NS/local"
	MarkerValue = "gossip"
)

// Key addresses one record set.
type Key struct {
	Zone string // "local"
	Type string // "A", "AAAA", "NS"
	Name string // fully qualified, without trailing dot
}

// AddressKey returns the key under which addresses of the family of addr are
// published for name. A trailing dot and upper case are normalised away.
func AddressKey(name string, addr netip.Addr) Key {
	k := Key{Zone: Zone, Type: TypeA, Name: normalName(name)}
	if addr.Is6() && !addr.Is4In6() {
		k.Type = TypeAAAA
	}
	return k
}

// ParseKey reads a key as it stands in a state. Readers of the legacy overlays
// ignore what does not parse, and so should ours.
func ParseKey(s string) (Key, error) {
	tokens := strings.Split(s, "/")
	if len(tokens) != 4 || tokens[0] != "dns" {
		return Key{}, fmt.Errorf("key %q is not of the form dns/<zone>/<type>/<name>", s)
	}
	for _, t := range tokens[1:] {
		if t == "" {
			return Key{}, fmt.Errorf("key %q has an empty part", s)
		}
	}
	return Key{Zone: tokens[1], Type: tokens[2], Name: tokens[3]}, nil
}

// String returns the key as it stands in a state.
func (k Key) String() string { return "dns/" + k.Zone + "/" + k.Type + "/" + k.Name }

// FormatAddrs returns the value that stands for addrs: sorted as text, each
// once, joined with commas, as dns-controller writes it.
func FormatAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.Unmap().String()
	}
	slices.Sort(texts)
	return strings.Join(slices.Compact(texts), ",")
}

func normalName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
