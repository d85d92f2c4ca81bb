package legacy_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// unhex reads a hex dump; blanks are for people.
func unhex(t testing.TB, dump string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(dump), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The encoded examples of the interoperability specification, part C and D2.
var vectors = []struct {
	name  string
	bytes string
	entry legacy.Entry
}{
	{
		name:  "an address record (part C)",
		bytes: `0a30 0a1c 646e732f6c6f63616c2f412f782e746573742e6b38732e6c6f63616c 1210 0a08 31302e392e392e39 18 c89a8ed806`,
		entry: legacy.Entry{Key: "dns/local/A/x.test.k8s.local", Record: legacy.Record{Value: "10.9.9.9", Version: 1795394888}},
	},
	{
		name:  "its tombstone (part C)",
		bytes: `0a28 0a1c 646e732f6c6f63616c2f412f782e746573742e6b38732e6c6f63616c 1208 1001 18 c99a8ed806`,
		entry: legacy.Entry{Key: "dns/local/A/x.test.k8s.local", Record: legacy.Record{Tombstone: true, Version: 1795394889}},
	},
	{
		name:  "two addresses as captured from a real peer (D2)",
		bytes: `0a44 0a27 646e732f6c6f63616c2f412f6170692e696e7465726e616c2e746573742e6b38732e6c6f63616c 1219 0a11 31302e302e302e312c31302e302e302e32 18 c89a8ed806`,
		entry: legacy.Entry{Key: "dns/local/A/api.internal.test.k8s.local", Record: legacy.Record{Value: "10.0.0.1,10.0.0.2", Version: 1795394888}},
	},
	{
		name:  "the zone marker as captured in a memberlist exchange (D4)",
		bytes: `0a24 0a12 646e732f6c6f63616c2f4e532f6c6f63616c 120e 0a06 676f73736970 18 a09e8ed806`,
		entry: legacy.Entry{Key: legacy.MarkerKey, Record: legacy.Record{Value: legacy.MarkerValue, Version: 1795395360}},
	},
}

func TestVectorsDecodeToTheirRecord(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			got, err := legacy.Decode(unhex(t, v.bytes))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]legacy.Entry{v.entry}, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVectorsAreEncodedByteForByte(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			got := legacy.Append(nil, v.entry)
			if want := unhex(t, v.bytes); string(got) != string(want) {
				t.Errorf("encoded\n%x, want\n%x", got, want)
			}
		})
	}
}

func TestDecodingRefusesWhatALegacyPeerWouldRefuse(t *testing.T) {
	for _, tc := range []struct{ name, bytes string }{
		{"an entry longer than the message", `0a30 0a1c 646e`},
		{"a key longer than its entry", `0a04 0a1c 6162`},
		{"a key that is not text", `0a03 0a01 ff`},
		{"a varint of more than 64 bits", `0a0f 1206 18 ffffffffffffffffff7f`},
		{"field number zero", `00 00`},
		{"a group", `0b 0c`},
		{"a tag cut off", `80`},
		{"a record cut inside its version", `0a05 1203 18 c89a`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := legacy.Decode(unhex(t, tc.bytes)); err == nil {
				t.Errorf("decoded to %v, want an error", got)
			}
		})
	}
}

func TestDecodingIgnoresWhatItDoesNotKnow(t *testing.T) {
	for _, tc := range []struct {
		name, bytes string
		want        []legacy.Entry
	}{
		{"no bytes are an empty state", ``, nil},
		{"unknown fields of every wire type", `0801 110102030405060708 1a0161 2501020304`, nil},
		{"an entry without key and value", `0a00`, []legacy.Entry{{}}},
		{"unknown fields inside a record", `0a0c 0a0161 1207 2001 3201ff 1805`, []legacy.Entry{{Key: "a", Record: legacy.Record{Version: 5}}}},
		{"a known field with another wire type", `0a09 0a0161 1204 0805 1801`, []legacy.Entry{{Key: "a", Record: legacy.Record{Version: 1}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := legacy.Decode(unhex(t, tc.bytes))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysHaveExactlyFourParts(t *testing.T) {
	for _, tc := range []struct {
		key  string
		want legacy.Key
		ok   bool
	}{
		{"dns/local/A/api.internal.test.k8s.local", legacy.Key{Zone: "local", Type: "A", Name: "api.internal.test.k8s.local"}, true},
		{"dns/local/NS/local", legacy.Key{Zone: "local", Type: "NS", Name: "local"}, true},
		{"dns/local/A", legacy.Key{}, false},
		{"dns/local/A/b/c", legacy.Key{}, false},
		{"other/local/A/b", legacy.Key{}, false},
		{"dns//A/b", legacy.Key{}, false},
		{"dns/local/A/", legacy.Key{}, false},
		{"", legacy.Key{}, false},
	} {
		t.Run(tc.key, func(t *testing.T) {
			got, err := legacy.ParseKey(tc.key)
			if (err == nil) != tc.ok || got != tc.want {
				t.Fatalf("ParseKey(%q) = %v, %v; want %v, ok %v", tc.key, got, err, tc.want, tc.ok)
			}
			if err == nil && got.String() != tc.key {
				t.Errorf("String() = %q, want %q", got.String(), tc.key)
			}
		})
	}
}
