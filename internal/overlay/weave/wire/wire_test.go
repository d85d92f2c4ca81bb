package wire

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The reference for what gob means. Names of types differ from the protocol's
// on purpose, and so does the order of fields.
type (
	refPeer struct {
		HasShortID bool
		NickName   string
		Extra      map[string][]int
		NameByte   []byte
		Version    uint64
		UID        uint64
		ShortID    uint16
		More       struct{ A, B []string }
		Float      float64
		Complex    complex128
		Array      [3]int
	}
	refLink struct {
		Established   bool
		Unknown       []map[int]string
		RemoteTCPAddr string
		NameByte      []byte
		Outbound      bool
	}
)

func gobOf(t testing.TB, values ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := gob.NewEncoder(&b)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestUpdatesOfOtherStructsAreReadByFieldName(t *testing.T) {
	a, b := NameOf("a"), NameOf("b")
	peer := refPeer{HasShortID: true, NickName: "a", NameByte: a[:], Version: 7, UID: 1 << 63, ShortID: 9, Float: 1.5, Complex: 2i,
		Extra: map[string][]int{"x": {1, -2}, "y": nil}, Array: [3]int{1, 2, 3}}
	peer.More.B = []string{"", "z"}
	links := []refLink{{Established: true, NameByte: b[:], RemoteTCPAddr: "10.0.0.2:3999", Unknown: []map[int]string{{1: "x"}, nil}}, {NameByte: a[:], Outbound: true}}
	u, err := ParseUpdate(gobOf(t, peer, links, refPeer{NameByte: b[:]}, []refLink{}))
	if err != nil {
		t.Fatal(err)
	}
	want := []Record{
		{Name: a, NickName: "a", UID: 1 << 63, Version: 7, ShortID: 9, HasShortID: true, Links: []Link{{Name: b, Addr: "10.0.0.2:3999", Established: true}, {Name: a, Outbound: true}}},
		{Name: b},
	}
	if diff := cmp.Diff(want, records(t, u)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestGobReadsOurUpdates(t *testing.T) {
	type peer struct {
		NameByte     []byte
		NickName     string
		UID, Version uint64
		ShortID      uint16
		HasShortID   bool
	}
	type link struct {
		NameByte              []byte
		RemoteTCPAddr         string
		Outbound, Established bool
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(drawRecord(), 1, 4).Draw(t, "records")
		var encoded []Encoded
		for _, r := range want {
			encoded = append(encoded, r.Encode())
		}
		data := AppendUpdate(nil, encoded)
		dec := gob.NewDecoder(bytes.NewReader(data))
		var got []Record
		for {
			var p peer
			var ls []link
			if err := dec.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if err := dec.Decode(&ls); err != nil {
				t.Fatal(err)
			}
			r := Record{Name: Name(p.NameByte), NickName: p.NickName, UID: p.UID, Version: p.Version, ShortID: p.ShortID, HasShortID: p.HasShortID}
			for _, l := range ls {
				r.Links = append(r.Links, Link{Name(l.NameByte), l.RemoteTCPAddr, l.Outbound, l.Established})
			}
			got = append(got, r)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("encoding/gob reads (-want +got):\n%s", diff)
		}
		u, err := ParseUpdate(data)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			r, err := u.Record(i)
			if err != nil || !cmp.Equal(r, want[i]) {
				t.Fatalf("record %d read back as %v, %v; want %v", i, r, err, want[i])
			}
		}
	})
}

func drawRecord() *rapid.Generator[Record] {
	name := rapid.Custom(func(t *rapid.T) Name { return NameOf(rapid.StringN(0, 3, -1).Draw(t, "node")) })
	return rapid.Custom(func(t *rapid.T) Record {
		r := Record{
			Name: name.Draw(t, "name"), NickName: rapid.StringN(0, 20, maxNick).Draw(t, "nick"), UID: rapid.Uint64().Draw(t, "uid"),
			Version: rapid.Uint64().Draw(t, "version"), ShortID: rapid.Uint16().Draw(t, "short"), HasShortID: rapid.Bool().Draw(t, "has"),
			Links: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Link {
				return Link{name.Draw(t, "to"), rapid.StringN(0, 10, 60).Draw(t, "addr"), rapid.Bool().Draw(t, "out"), rapid.Bool().Draw(t, "est")}
			}), 0, 3).Draw(t, "links"),
		}
		if len(r.Links) == 0 {
			r.Links = nil
		}
		return r
	})
}

func TestGobReadsOurMessagesAndFeatures(t *testing.T) {
	m := Message{Tag: Unicast, Channel: "dns", From: NameOf("a"), To: NameOf("b"), Data: []byte{1, 2, 3}}
	dec := gob.NewDecoder(bytes.NewReader(m.Append(nil)[1:]))
	var channel, from, to string
	var data []byte
	if err := errors.Join(dec.Decode(&channel), dec.Decode(&from), dec.Decode(&to), dec.Decode(&data)); err != nil {
		t.Fatal(err)
	}
	if channel != "dns" || from != m.From.String() || to != m.To.String() || !bytes.Equal(data, m.Data) {
		t.Errorf("encoding/gob reads %q %q %q %x", channel, from, to, data)
	}
	long := observer
	long.NickName = strings.Repeat("n", 300)
	var got map[string]string
	if err := gob.NewDecoder(bytes.NewReader(long.Append(nil))).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got["NickName"] != long.NickName || len(got) != 7 {
		t.Errorf("encoding/gob reads %v", got)
	}
}

func features(change func(map[string]string)) map[string]string {
	m := map[string]string{"PeerNameFlavour": "hash", "Name": NameOf("a").String(), "NickName": "a", "UID": "1", "ConnID": "2"}
	change(m)
	return m
}

func TestFeaturesAreChecked(t *testing.T) { // A3 step 4
	set := func(key, value string) func(map[string]string) {
		return func(m map[string]string) { m[key] = value }
	}
	for _, tc := range []struct {
		name   string
		change func(map[string]string)
		fault  string // empty if they are good
	}{
		{"short id and trusted may be left out", func(map[string]string) {}, ""},
		{"unknown keys are ignored", set("Future", "x"), ""},
		{"the greatest short id", set("ShortID", "4095"), ""},
		{"a short id of more than 12 bits", set("ShortID", "4096"), "ShortID"},
		{"another flavour of names", set("PeerNameFlavour", "mac"), "flavour"},
		{"no flavour", func(m map[string]string) { delete(m, "PeerNameFlavour") }, "PeerNameFlavour is missing"},
		{"no name", func(m map[string]string) { delete(m, "Name") }, "Name is missing"},
		{"a MAC address as name", set("Name", "aa:bb:cc:dd:ee:ff"), "peer name"},
		{"a name in upper case", set("Name", strings.ToUpper(NameOf("a").String())), "lower-case"},
		{"no nickname", func(m map[string]string) { delete(m, "NickName") }, "NickName is missing"},
		{"a nickname without end", set("NickName", strings.Repeat("n", maxNick+1)), "nickname"},
		{"no connection id", func(m map[string]string) { delete(m, "ConnID") }, "ConnID is missing"},
		{"a negative connection id", set("ConnID", "-1"), "ConnID"},
		{"a UID that is no number", set("UID", "x"), "UID"},
		{"a UID of a placeholder", set("UID", "0"), "UID 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseFeatures(gobOf(t, features(tc.change)))
			if (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
				t.Errorf("ParseFeatures: %v, want %q", err, tc.fault)
			}
		})
	}
}

func TestMalformedMessagesAreErrors(t *testing.T) {
	good := Message{Tag: Gossip, Channel: "dns", From: NameOf("a"), Data: []byte("x")}.Append(nil)
	for _, tc := range []struct {
		name  string
		frame []byte
	}{
		{"nothing", nil},
		{"a tag alone", []byte{4}},
		{"cut off in the data", good[:len(good)-1]},
		{"a source that is no name", append([]byte{4}, gobOf(t, "dns", "me", []byte{})...)},
		{"data that is a string", append([]byte{4}, gobOf(t, "dns", NameOf("a").String(), "x")...)},
		{"a number for a channel", append([]byte{4}, gobOf(t, 5, NameOf("a").String(), []byte{})...)},
		{"unicast without a destination", append([]byte{5}, good[1:]...)},
		{"a length beyond the frame", []byte{4, 0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 6, 0, 0}},
		{"an integer of nine bytes", []byte{4, 0xf7, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if m, err := ParseMessage(tc.frame); err == nil {
				t.Errorf("parsed as %v", m)
			}
		})
	}
}

func TestMalformedUpdatesAreErrors(t *testing.T) {
	a := NameOf("a")
	type wrongUID struct {
		NameByte []byte
		UID      int64
	}
	type nested struct{ Next []nested }
	deep := nested{}
	for range maxGobDepth {
		deep = nested{Next: []nested{deep}}
	}
	type deepPeer struct {
		NameByte []byte
		Deep     nested
	}
	for _, tc := range []struct {
		name string
		data []byte
	}{
		{"a peer without connections", gobOf(t, refPeer{NameByte: a[:]})},
		{"a peer without a name", gobOf(t, refPeer{NickName: "a"}, []refLink{})},
		{"a name of 15 bytes", gobOf(t, refPeer{NameByte: a[:15]}, []refLink{})},
		{"a signed UID", gobOf(t, wrongUID{a[:], 5}, []refLink{})},
		{"a string for a peer", gobOf(t, "a", []refLink{})},
		{"connections that are a struct", gobOf(t, refPeer{NameByte: a[:]}, refLink{})},
		{"connections that are strings", gobOf(t, refPeer{NameByte: a[:]}, []string{"x"})},
		{"a connection without a name", gobOf(t, refPeer{NameByte: a[:]}, []refLink{{RemoteTCPAddr: "x"}})},
		{"an endless address", gobOf(t, refPeer{NameByte: a[:]}, []refLink{{NameByte: a[:], RemoteTCPAddr: strings.Repeat("1", 257)}})},
		{"an endless nickname", gobOf(t, refPeer{NameByte: a[:], NickName: strings.Repeat("n", maxNick+1)}, []refLink{})},
		{"a value nested without end", gobOf(t, deepPeer{a[:], deep}, []refLink{})},
		{"a value of a type never defined", []byte{0x04, 0xff, 0x86, 0x00, 0x00}},
		{"a type defined twice", append([]byte(peerType), peerType...)},
		{"a short id of more than 16 bits", AppendUpdate(nil, []Encoded{withShortID(t, a, 0x10000)})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := ParseUpdate(tc.data)
			for i := 0; err == nil && i < len(u.Heads); i++ {
				_, err = u.Record(i)
			}
			if err == nil {
				t.Error("parsed without an error")
			}
		})
	}
}

// withShortID encodes a record whose short id does not fit its Go type.
func withShortID(t *testing.T, name Name, id uint64) Encoded {
	t.Helper()
	w := fieldWriter{b: []byte{0xff, 0x82}}
	w.text(string(name[:]))
	w.text("")
	w.uint(0)
	w.uint(0)
	w.uint(id)
	w.end()
	return Encoded{head: appendGobText(nil, w.b), links: Record{}.Encode().links}
}

func TestStringMapsMatchTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOfN(rapid.String(), rapid.String(), 1, 5).Draw(t, "map")
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(want); err != nil {
			t.Fatal(err)
		}
		got, err := parseStringMap(b.Bytes())
		if err != nil || !maps.Equal(got, want) {
			t.Fatalf("read %v, %v; want %v", got, err, want)
		}
	})
}
