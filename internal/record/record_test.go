package record_test

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

const (
	cluster = "atlas.k8s.local"
	name    = "api.internal.atlas.k8s.local"
)

// addrs parses addresses, so that tables stay readable.
func addrs(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

// statement is a valid record that tests change one thing of.
func statement(publisher string, now time.Time) record.Record {
	return record.Record{
		Name:      name,
		Publisher: publisher,
		Addrs:     addrs("172.20.0.4:443"),
		Clock:     record.ClockAt(now),
		Expires:   now.Add(time.Minute),
	}
}

// same compares records as statements: instants, not time zones.
var same = cmp.Options{
	cmpopts.EquateComparable(netip.AddrPort{}),
	cmpopts.EquateApproxTime(0),
	cmpopts.EquateEmpty(),
}

func anyAddr() *rapid.Generator[netip.AddrPort] {
	port := rapid.Uint16Range(1, 65535)
	v4 := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		b := [4]byte{10, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c"), rapid.Byte().Draw(t, "d")}
		return netip.AddrPortFrom(netip.AddrFrom4(b), port.Draw(t, "port"))
	})
	v6 := rapid.Custom(func(t *rapid.T) netip.AddrPort {
		b := [16]byte{0xfd, 0, 15: rapid.Byte().Draw(t, "last")}
		return netip.AddrPortFrom(netip.AddrFrom16(b), port.Draw(t, "port"))
	})
	return rapid.OneOf(v4, v6)
}

func TestWhatIsSignedIsWhatIsDecoded(t *testing.T) {
	ca := recordtest.NewCA(t)
	nodes := map[string]recordtest.Node{}
	for _, n := range []string{"cp-a", "cp-b"} {
		nodes[n] = ca.ControlPlane(t, cluster, n)
	}
	verifier := ca.Verifier(cluster, name, "api.atlas.k8s.local")
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		r := record.Record{
			Name:      rapid.SampledFrom(verifier.Names).Draw(t, "name"),
			Publisher: rapid.SampledFrom([]string{"cp-a", "cp-b"}).Draw(t, "publisher"),
			Addrs:     rapid.SliceOfN(anyAddr(), 0, record.MaxAddrs).Draw(t, "addrs"),
			Clock:     record.ClockAt(now) + record.Clock(rapid.Uint16().Draw(t, "counter")),
			Expires:   now.Add(time.Duration(rapid.Int64Range(int64(time.Second), int64(record.MaxLifetime-time.Second)).Draw(t, "lifetime"))),
		}
		signed := nodes[r.Publisher].Sign(t, r)
		if err := verifier.Verify(signed, now); err != nil {
			t.Fatalf("not believed: %v", err)
		}
		wire := signed.Encode()
		got, err := record.Decode(wire)
		if err != nil {
			t.Fatal(err)
		}
		r.Expires = r.Expires.Truncate(time.Millisecond)
		if diff := cmp.Diff(r, got.Record, same); diff != "" {
			t.Errorf("decoded record (-signed +decoded):\n%s", diff)
		}
		if got.Compare(signed) != 0 || !bytes.Equal(got.Encode(), wire) {
			t.Error("decoded record is another statement than the one signed")
		}
		if err := verifier.Verify(got, now); err != nil {
			t.Errorf("not believed after its journey: %v", err)
		}
		if got, want := got.Withdrawn(), len(r.Addrs) == 0; got != want {
			t.Errorf("withdrawn: got %v, want %v", got, want)
		}
	})
}

func TestSignRefuses(t *testing.T) {
	now := time.Now()
	node := recordtest.NewCA(t).ControlPlane(t, cluster, "cp-a")
	tests := []struct {
		name   string
		change func(*record.Record)
		want   string
	}{
		{"a record without a name", func(r *record.Record) { r.Name = "" }, "without a name"},
		{"a record without a publisher", func(r *record.Record) { r.Publisher = "" }, "without a name or a publisher"},
		{"a name longer than DNS allows", func(r *record.Record) { r.Name = strings.Repeat("a", 254) }, "over 253"},
		{"a publisher longer than DNS allows", func(r *record.Record) { r.Publisher = strings.Repeat("a", 254) }, "over 253"},
		{"a name that is not UTF-8", func(r *record.Record) { r.Name = "api\xff" }, "not UTF-8"},
		{"more addresses than fit", func(r *record.Record) {
			for i := range record.MaxAddrs {
				r.Addrs = append(r.Addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 443))
			}
		}, "17 addresses"},
		{"the zero address", func(r *record.Record) { r.Addrs = []netip.AddrPort{{}} }, "cannot be an API address"},
		{"port zero", func(r *record.Record) { r.Addrs = addrs("10.0.0.1:0") }, "cannot be an API address"},
		{"an unspecified IPv4 address", func(r *record.Record) { r.Addrs = addrs("0.0.0.0:443") }, "cannot be an API address"},
		{"an unspecified IPv6 address", func(r *record.Record) { r.Addrs = addrs("[::]:443") }, "cannot be an API address"},
		{"a multicast address", func(r *record.Record) { r.Addrs = addrs("[ff02::1]:443") }, "cannot be an API address"},
		{"an address with a zone", func(r *record.Record) { r.Addrs = addrs("[fe80::1%eth0]:443") }, "cannot be an API address"},
		{"IPv4 dressed up as IPv6", func(r *record.Record) { r.Addrs = addrs("[::ffff:10.0.0.1]:443") }, "cannot be an API address"},
		{"a clock before 1970", func(r *record.Record) { r.Clock = -1 }, "before 1970"},
		{"a life beyond the limit", func(r *record.Record) { r.Expires = r.Clock.Time().Add(record.MaxLifetime + time.Millisecond) }, "lives 10m0.001s"},
		{"a life beyond what a duration holds", func(r *record.Record) { r.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, "lives"},
		{"what no longer fits a datagram", func(r *record.Record) {
			r.Name, r.Publisher, r.Addrs = strings.Repeat("a", 253), strings.Repeat("b", 253), nil
			for i := range record.MaxAddrs {
				r.Addrs = append(r.Addrs, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}), 443))
			}
		}, "fit a datagram"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := statement("cp-a", now)
			tt.change(&r)
			_, err := record.Sign(r, node.Cert, node.Key)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

// The wire form as another implementation might write it.
type (
	looseRecord struct {
		Version   int
		Name      string `asn1:"utf8"`
		Publisher string `asn1:"utf8"`
		Addrs     [][]byte
		Clock     int64
		Expires   int64
	}
	longRecord struct {
		Version   int
		Name      string `asn1:"utf8"`
		Publisher string `asn1:"utf8"`
		Addrs     [][]byte
		Clock     int64
		Expires   int64
		More      string
	}
	printableRecord struct {
		Version   int
		Name      string `asn1:"printable"`
		Publisher string `asn1:"printable"`
		Addrs     [][]byte
		Clock     int64
		Expires   int64
	}
	looseSigned struct{ Payload, Cert, Signature []byte }
	longSigned  struct {
		Payload, Cert, Signature []byte
		More                     string
	}
)

// der encodes v; no test value fails to.
func der(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", v, err))
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	good := looseRecord{Version: 1, Name: name, Publisher: "cp-a", Clock: 1 << 40, Expires: 1 << 24}
	rec := func(change func(*looseRecord)) []byte {
		r := good
		change(&r)
		return der(looseSigned{Payload: der(r)})
	}
	if _, err := record.Decode(rec(func(*looseRecord) {})); err != nil {
		t.Fatalf("the record that every case changes: %v", err)
	}
	tests := []struct {
		name string
		wire []byte
		want string
	}{
		{"nothing", nil, "decode signed record"},
		{"what is not DER", []byte("hello"), "decode signed record"},
		{"an indefinite length", []byte{0x30, 0x80, 0, 0}, "decode signed record"},
		{"more bytes than fit a datagram", make([]byte, record.MaxEncoded+1), "1201 bytes; at most 1200"},
		{"bytes after the end", append(rec(func(*looseRecord) {}), 0), "1 bytes after the end"},
		{"bytes after the end of the payload", der(looseSigned{Payload: append(der(good), 0)}), "1 bytes after the end"},
		{"a payload that is no record", der(looseSigned{Payload: []byte{5, 0}}), "decode record"},
		{"a fourth field beside payload, certificate and signature", der(longSigned{Payload: der(good), More: "x"}), "not canonical"},
		{"a seventh field in the record", der(looseSigned{Payload: der(longRecord{Version: 1, Name: name, Publisher: "cp-a", Clock: 1 << 40, Expires: 1 << 24, More: "x"})}), "not canonical"},
		{"a name in another string type", der(looseSigned{Payload: der(printableRecord(good))}), "not canonical"},
		{"a later version", rec(func(r *looseRecord) { r.Version = 2 }), "version 2"},
		{"no name", rec(func(r *looseRecord) { r.Name = "" }), "without a name"},
		{"a clock before 1970", rec(func(r *looseRecord) { r.Clock = -1 }), "before 1970"},
		{"an endless life", rec(func(r *looseRecord) { r.Expires = 1<<63 - 1 }), "lives"},
		{"more addresses than fit", rec(func(r *looseRecord) { r.Addrs = make([][]byte, record.MaxAddrs+1) }), "17 addresses"},
		{"an address without bytes", rec(func(r *looseRecord) { r.Addrs = [][]byte{{}} }), "address"},
		{"an address of a port alone", rec(func(r *looseRecord) { r.Addrs = [][]byte{{1, 187}} }), "cannot be an API address"},
		{"an address of five bytes", rec(func(r *looseRecord) { r.Addrs = [][]byte{{10, 0, 0, 1, 1}} }), "address"},
		{"an address with a zone", rec(func(r *looseRecord) { r.Addrs = [][]byte{append(make([]byte, 17), "eth0:1"...)} }), "cannot be an API address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := record.Decode(tt.wire)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v and error %v, want an error that says %q", s.Record, err, tt.want)
			}
		})
	}
}

// FuzzDecode holds Decode to its promises on any input: no panic, nothing beyond
// the bounds, and only the one encoding of each statement is accepted.
func FuzzDecode(f *testing.F) {
	now := time.Now()
	node := recordtest.NewCA(f).ControlPlane(f, cluster, "cp-a")
	live := statement("cp-a", now)
	live.Addrs = addrs("172.20.0.4:443", "[fd00::4]:443")
	withdrawn := statement("cp-a", now)
	withdrawn.Addrs = nil
	for _, r := range []record.Record{live, withdrawn} {
		f.Add(node.Sign(f, r).Encode())
	}
	good := looseRecord{Version: 1, Name: name, Publisher: "cp-a", Clock: 1 << 40, Expires: 1 << 24, Addrs: [][]byte{{10, 0, 0, 1, 187, 1}}}
	f.Add(der(looseSigned{Payload: der(good)}))
	f.Add(der(longSigned{Payload: der(good), More: "x"}))
	f.Add(der(looseSigned{Payload: der(printableRecord(good))}))
	f.Add([]byte{0x30, 0x80})
	f.Add([]byte{})
	verifier := recordtest.NewCA(f).Verifier(cluster, name)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := record.Decode(b)
		if err != nil {
			return
		}
		if len(s.Addrs) > record.MaxAddrs || len(s.Name) > len(b) || len(s.Publisher) > len(b) {
			t.Errorf("decoded beyond its bounds: %+v", s.Record)
		}
		if life := s.Expires.Sub(s.Clock.Time()); life > record.MaxLifetime {
			t.Errorf("decoded a record that lives %v", life)
		}
		if got := s.Encode(); !bytes.Equal(got, b) {
			t.Errorf("re-encodes differently:\n got %x\nwant %x", got, b)
		}
		if err := verifier.Verify(s, s.Clock.Time()); err == nil {
			t.Error("believed under an authority that signed nothing")
		}
		_ = s.Clock.String()
	})
}
