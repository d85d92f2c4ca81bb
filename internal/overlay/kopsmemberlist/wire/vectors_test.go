package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// unhex reads a hex dump; blanks are for people.
func unhex(t testing.TB, dumps ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.Join(dumps, "")), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the interoperability specification has in part D4.
const (
	// A request with a state of one record.
	dumpRequest      = `06 83 a44a6f696e c2 a54e6f646573 00 ac5573657253746174654c656e 2e` + dumpRequestState
	dumpRequestState = `0a2c 0a03 646e73 1225 0a23 0a0f 646e732f6c6f63616c2f412f726177 1210 0a08 31302e322e322e32 18 a29e8ed806`

	// The answer of a real peer as it came, and what it unpacks to.
	dumpPacked = `09 82 a4416c676f 00 a3427566 da00b1` + dumpLZW
	dumpLZW    = `000d0c22a5e44d1a37c24a397943a6cc9c00acaacc2923670a9d3074ca3029e3e6c5215241c8909143ea0f00000156257133268c1c3718d3bc7113805493321741917212a64d195d306234c121234b111b359644a1b2c44a0e28387220b18183c6152a57a69082f2460e9d6636ec95b288b10c805156e6b83115a08080930014b45030808c9b39124c2820a14082dd392fd8bc69c9e68593298107876123c181020367decc9993060e06509e1c61331010`
	dumpHead   = `06 83 a44a6f696e c2 a54e6f646573 01 ac5573657253746174654c656e 2f
	              87 a441646472 a47f000001 ab496e6361726e6174696f6e 01 a44d657461 a0 a44e616d65 ba`
	dumpTail   = `a4506f7274 cd36f6 a55374617465 00 a356736e a6 010502000000` + dumpMarker
	dumpMarker = `0a2d 0a03 646e73 1226 0a24 0a12 646e732f6c6f63616c2f4e532f6c6f63616c 120e 0a06 676f73736970 18 a09e8ed806`
)

// The name that the packed answer has for its only member, a ULID.
const capturedName = "01M82YE65KQTKV9P89H684WTWS"

func TestTheCapturedAnswerIsUnpackedByteForByte(t *testing.T) {
	d := decoder{newReader(unhex(t, dumpPacked)[1:])}
	plain, err := d.decompress(MaxPlain)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(plain.in)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, dumpHead, hex.EncodeToString([]byte(capturedName)), dumpTail)
	if !bytes.Equal(got, want) {
		t.Errorf("unpacked\n%x, want\n%x", got, want)
	}
}

func TestTheCapturedAnswerIsRead(t *testing.T) {
	want := Exchange{
		Members: []Member{{Name: capturedName, Addr: netip.MustParseAddrPort("127.0.0.1:14070"), Incarnation: 1}},
		State:   unhex(t, dumpMarker),
	}
	for _, tc := range []struct {
		name string
		dump []byte
	}{
		{"packed, as it came", unhex(t, dumpPacked)},
		{"unpacked, as peers also may", unhex(t, dumpHead, hex.EncodeToString([]byte(capturedName)), dumpTail)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ReadExchange(iotest.OneByteReader(bytes.NewReader(tc.dump)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheCapturedStatesAreReadAndWrittenByteForByte(t *testing.T) {
	for _, tc := range []struct {
		name, dump string
		want       legacy.Entry
	}{
		{"of the request", dumpRequestState, legacy.Entry{Key: "dns/local/A/raw", Record: legacy.Record{Value: "10.2.2.2", Version: 1795395362}}},
		{"of the answer", dumpMarker, legacy.Entry{Key: legacy.MarkerKey, Record: legacy.Record{Value: legacy.MarkerValue, Version: 1795395360}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var parts []Part
			err := ScanFullState(unhex(t, tc.dump), func(p Part) error {
				parts = append(parts, p)
				return nil
			})
			if err != nil || len(parts) != 1 || parts[0].Key != legacy.Channel {
				t.Fatalf("parts %v, error %v; want one for %q", parts, err, legacy.Channel)
			}
			got, err := legacy.Decode(parts[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]legacy.Entry{tc.want}, got); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			written := AppendFullState(nil, Part{Key: legacy.Channel, Data: legacy.Append(nil, tc.want)})
			if want := unhex(t, tc.dump); !bytes.Equal(written, want) {
				t.Errorf("written\n%x, want\n%x", written, want)
			}
		})
	}
}

func TestARequestIsWrittenByteForByte(t *testing.T) {
	if got, want := AppendRequest(nil, unhex(t, dumpRequestState)), unhex(t, dumpRequest); !bytes.Equal(got, want) {
		t.Errorf("written\n%x, want\n%x", got, want)
	}
}

func TestRequestsOfAllSizesAreWrittenAsUpstreamWrites(t *testing.T) {
	for _, tc := range []struct {
		size int
		head string
	}{
		{0, `00`}, {127, `7f`}, {128, `cc80`}, {701, `cd02bd`}, {70_000, `ce00011170`},
	} {
		state := bytes.Repeat([]byte{7}, tc.size)
		want := append(unhex(t, `06 83 a44a6f696e c2 a54e6f646573 00 ac5573657253746174654c656e`, tc.head), state...)
		if got := AppendRequest(nil, state); !bytes.Equal(got, want) {
			t.Errorf("with a state of %d bytes it begins\n%x, want\n%x", tc.size, got[:min(len(got), 40)], want[:min(len(want), 40)])
		}
	}
}

func TestMembersAreReadWhateverTheOrderAndTheirState(t *testing.T) {
	member := func(status, addr string) string {
		return `87 a44e616d65 a16e a55374617465` + status + `a441646472` + addr + `a4506f7274 cd0fa0 ab496e6361726e6174696f6e ce00010000 a44d657461 c40101 a356736e c0`
	}
	stream := unhex(t, `06 83 a54e6f646573 04 a44a6f696e c3 ac5573657253746174654c656e 00`,
		member(`00`, `a40a000001`), member(`01`, `b0fd000000000000000000000000000001`), member(`02`, `a3010203`), member(`03`, `b000000000000000000000ffff0a000002`))
	got, err := ReadExchange(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	want := Exchange{Join: true, Members: []Member{
		{Name: "n", Addr: netip.MustParseAddrPort("10.0.0.1:4000"), Incarnation: 65536, Status: Alive},
		{Name: "n", Addr: netip.MustParseAddrPort("[fd00::1]:4000"), Incarnation: 65536, Status: Suspect},
		{Name: "n", Incarnation: 65536, Status: Dead}, // an address of three bytes is none
		{Name: "n", Addr: netip.MustParseAddrPort("10.0.0.2:4000"), Incarnation: 65536, Status: Left},
	}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestFieldsOfTheFutureArePassedOver(t *testing.T) {
	for _, value := range []string{`05`, `ff`, `c0`, `c2`, `c3`, `a0`, `a3616263`, `c40100`, `c5000100`, `c60000000100`, `d90141`, `da000141`, `db0000000141`,
		`cc01`, `cd0001`, `ce00000001`, `cf0000000000000001`, `d0ff`, `d1ffff`, `d2ffffffff`, `d3ffffffffffffffff`, `ca00000000`, `cb0000000000000000`,
		`80`, `81a16105`, `90`, `920102`, `dc00020102`, `dd00000001c0`, `de0001a16105`, `df00000001a16105`} {
		stream := unhex(t, `06 82 a46e6f7665`, value, `a54e6f646573 00`)
		if _, err := ReadExchange(bytes.NewReader(stream)); err != nil {
			t.Errorf("with %s: %v", value, err)
		}
	}
}

func TestWhatIsNoPushPullIsRefused(t *testing.T) {
	for _, tc := range []struct{ name, dump, want string }{
		{"nothing", ``, "unexpected EOF"},
		{"a ping", `00 81 a55365714e6f 01`, "type 0 is not a push/pull"},
		{"the peer's own refusal", `0d 81 a54572726f72 a46e6f7065`, `peer refused: "nope"`},
		{"encryption", `0a 00`, ErrEncrypted.Error()},
		{"a label", `f4 03 616263`, ErrEncrypted.Error()},
		{"something packed in something packed", hex.EncodeToString(pack(t, unhex(t, dumpPacked))), "type 9 is not a push/pull"},
		{"another way of packing", `09 82 a4416c676f 01 a3427566 a0`, "out of range"},
		{"packed bytes that do not unpack", `09 82 a4416c676f 00 a3427566 a3ffffff`, "read push/pull"},
		{"packed bytes that promise more than arrives", `09 82 a4416c676f 00 a3427566 db01000000 00`, "unexpected EOF"},
		{"packed bytes beyond the bound", `09 82 a4416c676f 00 a3427566 dbffffffff 00`, "at most"},
		{"a list where a map belongs", `06 90`, "where a map begins"},
		{"a number as a key", `06 81 05 05`, "where text or bytes begin"},
		{"a number below zero", `06 81 a54e6f646573 d0ff`, "out of range"},
		{"a small number below zero", `06 81 a54e6f646573 ff`, "where a number"},
		{"more members than anybody has", `06 81 a54e6f646573 cd2711`, "out of range"},
		{"fewer members than promised", `06 81 a54e6f646573 01`, "member 1 of 1"},
		{"a port beyond all ports", `06 81 a54e6f646573 01 81 a4506f7274 ce00010000`, `field "Port"`},
		{"an address of 17 bytes", `06 81 a54e6f646573 01 81 a441646472 b10000000000000000000000000000000000`, `field "Addr"`},
		{"a state beyond the bound", `06 81 ac5573657253746174654c656e ce7fffffff`, "out of range"},
		{"a state cut off", `06 81 ac5573657253746174654c656e 05 00`, "state of 5 bytes"},
		{"a truth value that is a number", `06 81 a44a6f696e 01`, "truth value"},
		{"nesting without end", `06 81 a16e` + strings.Repeat("91", 100), "nested deeper"},
		{"a tag that begins nothing", `06 81 a16e c1`, "begins no value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ReadExchange(bytes.NewReader(unhex(t, tc.dump)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestWhatIsLongerThanAllowedIsRefused(t *testing.T) {
	const size = 100_000
	stream := append(unhex(t, `06 82 a16e db000186a0`), make([]byte, size)...) // a field of that size
	stream = append(stream, unhex(t, `a54e6f646573 00`)...)
	compressed := pack(t, stream)
	for _, tc := range []struct {
		name                string
		stream              []byte
		maxStream, maxPlain int
		want                error
	}{
		{"just not too long", stream, len(stream), 0, nil},
		{"one byte too long", stream, len(stream) - 1, 0, errTooLong},
		{"packed, and just not too long", compressed, len(compressed), len(stream), nil},
		{"packed, and one byte too long", compressed, len(compressed) - 1, len(stream), errTooLong},
		{"packed into far less than it unpacks to", compressed, len(compressed), len(stream) - 1, errTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := readExchange(io.MultiReader(bytes.NewReader(tc.stream), endless{}), tc.maxStream, tc.maxPlain); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// endless is a peer that never stops.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestPartsThatDoNotDecodeAreErrors(t *testing.T) {
	for _, tc := range []struct{ name, dump string }{
		{"a key that is not text", `0a01ff`},
		{"a key longer than the part", `0a05 646e73`},
		{"data longer than the part", `0a03 646e73 1205 00`},
		{"a tag cut off", `80`},
		{"a group", `0b 0c`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			part := unhex(t, tc.dump)
			if p, err := ParsePart(part); err == nil {
				t.Errorf("read as %v", p)
			}
			full := append([]byte{0x0a, byte(len(part))}, part...)
			if err := ScanFullState(full, func(Part) error { return nil }); err == nil {
				t.Error("read inside a full state")
			}
		})
	}
}
