package kopsmemberlist

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestANameIsTheTimeAndRandomBitsInBase32(t *testing.T) {
	for _, tc := range []struct {
		name   string
		at     time.Time
		random [10]byte
		want   string
	}{
		{"at the beginning of time", time.UnixMilli(0), [10]byte{}, "00000000000000000000000000"},
		{"with the time of the format's own example", time.UnixMilli(1469918176385), [10]byte{}, "01ARYZ6S410000000000000000"},
		{"with all random bits set", time.UnixMilli(0), [10]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, "0000000000ZZZZZZZZZZZZZZZZ"},
		{"with one bit set at each end", time.UnixMilli(1), [10]byte{0x80, 9: 1}, "0000000001G000000000000001"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := nameOf(tc.at, tc.random); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
	if a, b := newName(time.UnixMilli(5)), newName(time.UnixMilli(5)); a == b {
		t.Errorf("two names are the same: %s", a)
	}
}

func TestThePrivateAddressIsAdvertised(t *testing.T) {
	ipnet := func(s string) net.Addr {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = net.ParseIP(s[:len(s)-len("/8")])
		return n
	}
	for _, tc := range []struct {
		name string
		all  []net.Addr
		want netip.Addr
	}{
		{"none among public and loopback", []net.Addr{ipnet("127.0.0.1/8"), ipnet("8.8.8.8/8")}, netip.Addr{}},
		{"the first of IPv4", []net.Addr{ipnet("127.0.0.1/8"), ipnet("fd00::1/8"), ipnet("10.1.2.3/8"), ipnet("10.1.2.4/8")}, netip.MustParseAddr("10.1.2.3")},
		{"the first of IPv6 if there is no other", []net.Addr{ipnet("fd00::1/8"), ipnet("fd00::2/8")}, netip.MustParseAddr("fd00::1")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := pickPrivate(tc.all); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
