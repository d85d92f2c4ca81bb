package legacy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Channel identifies the state in both overlays: the gossip channel of weave mesh, the part key of the memberlist
// overlay.
const Channel = "dns"

// Zone is the only zone that kOps uses.
const Zone = "local"

// Record types in use. Only A and AAAA reach a hosts file.
const (
	TypeA    = "A"
	TypeAAAA = "AAAA"
	TypeNS   = "NS"
)

// The zone marker. kOps's dns-controller publishes nothing before it sees this record, so a replacement of protokube
// must write it.
const (
	MarkerKey   = "dns/local/NS/local"
	MarkerValue = "gossip"
)

// Key identifies one record set.
type Key struct {
	Zone string // "local"
	Type string // "A", "AAAA", "NS"
	Name string // fully qualified, without trailing dot
}

// AddressKey returns the key under which addresses of addr's family are published for name. name is converted to
// lower case without trailing dot.
func AddressKey(name string, addr netip.Addr) Key {
	k := Key{Zone: Zone, Type: TypeA, Name: normalName(name)}
	if addr.Is6() && !addr.Is4In6() {
		k.Type = TypeAAAA
	}
	return k
}

// ParseKey parses the text form of a key. Readers of the legacy overlays ignore keys that do not parse, and so should
// ours.
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

// String returns the text form of the key.
func (k Key) String() string { return "dns/" + k.Zone + "/" + k.Type + "/" + k.Name }

// FormatAddrs returns the value of a record with addrs: sorted as text, without duplicates, joined with commas, as
// dns-controller writes it.
func FormatAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.Unmap().String()
	}
	slices.Sort(texts)
	return strings.Join(slices.Compact(texts), ",")
}

func normalName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }
