package survey

import (
	"net/netip"
	"strconv"
	"strings"
)

// Ports reads a port or a range of ports, "443" or "3998-4000".
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

// Prefix reads a network, or an address as the network of it alone.
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
