package survey

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
)

// Ports parses a port or a range of ports, "443" or "3998-4000".
func Ports(text string) (low, high int, ok bool) {
	from, to, ranged := strings.Cut(strings.TrimSpace(text), "-")
	if !ranged {
		to = from
	}
	low, err1 := strconv.Atoi(strings.TrimSpace(from))
	high, err2 := strconv.Atoi(strings.TrimSpace(to))
	ok = err1 == nil && err2 == nil && 0 <= low && low <= high && high <= 65535
	return low, high, ok
}

// Prefix parses a network, or an address as a network of one.
func Prefix(text string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), true
	}
	a := Addr(text)
	if !a.IsValid() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// addContained adds, for each rule whose sources are networks, rules for the parties in them: a rule for the cluster's own
// network admits the workers. Networks that contain only some of a party make the observation partial.
func addContained(o *cloud.Observation) {
	parties := map[string][]netip.Addr{}
	for _, g := range o.Groups {
		for _, in := range g.Instances {
			if p := Party(g.Role); p != "" && in.Addr.IsValid() {
				parties[p] = append(parties[p], in.Addr)
			}
		}
	}
	for _, r := range slices.Clone(o.Network.Rules) {
		if r.From != "" || slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			continue // for a party, or the world
		}
		for _, from := range []string{cloud.PartyControlPlane, cloud.PartyWorkers} {
			n := 0
			for _, a := range parties[from] {
				if slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Contains(a) }) {
					n++
				}
			}
			switch {
			case n == 0:
			case n < len(parties[from]):
				o.Network.Partial = true
			default:
				r.From = from
				o.Network.Rules = append(o.Network.Rules, r)
				r.From = ""
			}
		}
	}
}
