package hosts

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBlockLines(t *testing.T) {
	tests := []struct {
		name    string
		entries []Entry
		want    []string
	}{
		{
			name:    "the order given is kept, not sorted",
			entries: []Entry{entry("10.0.0.9", "api.x"), entry("10.0.0.1", "api.x"), entry("fd00::1", "api.x")},
			want:    []string{"10.0.0.9\tapi.x", "10.0.0.1\tapi.x", "fd00::1\tapi.x"},
		},
		{
			name: "names of one address share a line when the order of each name allows it",
			entries: []Entry{
				entry("10.0.0.2", "api.x"), entry("10.0.0.1", "api.x"),
				entry("10.0.0.2", "kops.x"), entry("10.0.0.1", "kops.x"),
			},
			want: []string{"10.0.0.2\tapi.x kops.x", "10.0.0.1\tapi.x kops.x"},
		},
		{
			name: "an address gets a second line when sharing would change the order of a name",
			entries: []Entry{
				entry("10.0.0.1", "api.x"), entry("10.0.0.2", "api.x"),
				entry("10.0.0.2", "kops.x"), entry("10.0.0.1", "kops.x"),
			},
			want: []string{"10.0.0.1\tapi.x", "10.0.0.2\tapi.x kops.x", "10.0.0.1\tkops.x"},
		},
		{
			name:    "a pair given twice keeps its first place",
			entries: []Entry{entry("10.0.0.1", "api.x", "API.x"), entry("10.0.0.2", "api.x"), entry("10.0.0.1", "api.x")},
			want:    []string{"10.0.0.1\tapi.x", "10.0.0.2\tapi.x"},
		},
		{
			name:    "an IPv4-mapped address is written as IPv4 and is the same address",
			entries: []Entry{entry("::ffff:10.0.0.1", "api.x"), entry("10.0.0.1", "kops.x")},
			want:    []string{"10.0.0.1\tapi.x kops.x"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := blockLines(tt.entries)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBlockLinesRefusesWhatAHostsFileCannotHold(t *testing.T) {
	tests := []struct {
		name  string
		entry Entry
		want  string
	}{
		{"no address", Entry{Names: []string{"api.x"}}, "address is missing"},
		{"an address with a zone", entry("fe80::1%eth0", "api.x"), "zone"},
		{"the unspecified address", entry("0.0.0.0", "api.x"), "not the address of one host"},
		{"a multicast address", entry("ff02::1", "api.x"), "not the address of one host"},
		{"no names", entry("10.0.0.1"), "no host name"},
		{"an empty name", entry("10.0.0.1", ""), "1 to 253"},
		{"a name of 254 characters", entry("10.0.0.1", strings.Repeat("a.", 126)+"aa"), "254 characters"},
		{"a label of 64 characters", entry("10.0.0.1", strings.Repeat("a", 64)+".x"), "64 characters"},
		{"an empty label", entry("10.0.0.1", "api..x"), "0 characters"},
		{"a trailing dot", entry("10.0.0.1", "api.x."), "0 characters"},
		{"a space", entry("10.0.0.1", "api x"), `' '`},
		{"a tab", entry("10.0.0.1", "api\tx"), `'\t'`},
		{"a line break", entry("10.0.0.1", "api\n1.2.3.4 evil"), `'\n'`},
		{"a carriage return", entry("10.0.0.1", "api\r"), `'\r'`},
		{"a comment sign", entry("10.0.0.1", "api#"), `'#'`},
		{"a NUL", entry("10.0.0.1", "api\x00"), `'\x00'`},
		{"a byte outside ASCII", entry("10.0.0.1", "\u212aops.x"), "character"},
		{"a leading hyphen", entry("10.0.0.1", "-api.x"), "hyphen"},
		{"a trailing hyphen", entry("10.0.0.1", "api-.x"), "hyphen"},
		{"an address as a name", entry("10.0.0.1", "10.0.0.2"), "is an address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lines, err := blockLines([]Entry{entry("10.9.9.9", "fine.x"), tt.entry})
			if err == nil {
				t.Fatalf("got lines %q, want an error", lines)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "host entry 2") {
				t.Errorf("got error %q, want it to name entry 2 and say %q", err, tt.want)
			}
		})
	}
}

func TestBlockLinesReportsAllFaultsAtOnce(t *testing.T) {
	_, err := blockLines([]Entry{entry("fe80::1%eth0"), entry("10.0.0.1", "a b")})
	for _, want := range []string{"zone", "no host name", `"a b"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want it to contain %q", err, want)
		}
	}
}

func TestBlockLinesRefusesAnEmptyList(t *testing.T) {
	if _, err := blockLines(nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("got error %v, want ErrEmpty", err)
	}
}

func TestBlockLinesAcceptsTheLongestNames(t *testing.T) {
	name := strings.Join([]string{strings.Repeat("a", 63), strings.Repeat("b", 63), strings.Repeat("c", 63), strings.Repeat("d", 61)}, ".")
	if _, err := blockLines([]Entry{entry("10.0.0.1", name, "api_internal.X-1")}); err != nil || len(name) != 253 {
		t.Errorf("got error %v for a name of %d characters, want none for 253", err, len(name))
	}
}

func entry(addr string, names ...string) Entry {
	return Entry{Addr: netip.MustParseAddr(addr), Names: names}
}
