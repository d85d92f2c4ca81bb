package legacy_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/overlay/alloctest"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

var noon = time.Unix(1795394888, 0)

func entry(key, value string, version uint64) legacy.Entry {
	return legacy.Entry{Key: key, Record: legacy.Record{Value: value, Version: version}}
}

func merge(t *testing.T, s *legacy.State, entries ...legacy.Entry) legacy.Merged {
	t.Helper()
	m, err := s.Merge(legacy.Append(nil, entries...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMergeTakesOnlyGreaterVersions(t *testing.T) {
	for _, tc := range []struct {
		name     string
		incoming legacy.Entry
		want     legacy.Merged
		value    string
	}{
		{"an unknown key is taken", entry("new", "1", 0), legacy.Merged{Changed: []string{"new"}}, "held"},
		{"a greater version is taken", entry("k", "later", 6), legacy.Merged{Changed: []string{"k"}}, "later"},
		{"a lesser version is not", entry("k", "earlier", 4), legacy.Merged{}, "held"},
		{"the same record is no news", entry("k", "held", 5), legacy.Merged{}, "held"},
		{"an equal version with another value keeps what is there and reports the tie", entry("k", "other", 5),
			legacy.Merged{Ties: []legacy.Tie{{Held: entry("k", "held", 5), Other: entry("k", "other", 5)}}}, "held"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s legacy.State
			merge(t, &s, entry("k", "held", 5))
			if diff := cmp.Diff(tc.want, merge(t, &s, tc.incoming)); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
			if got, _ := s.Get("k"); got.Value != tc.value {
				t.Errorf("value %q, want %q", got.Value, tc.value)
			}
		})
	}
}

func TestMergeOfAMalformedMessageTakesNothing(t *testing.T) {
	var s legacy.State
	message := append(legacy.Append(nil, entry("k", "v", 1)), 0x0a, 0x7f)
	if _, err := s.Merge(message); err == nil {
		t.Error("no error for a message cut off")
	}
	if s.Len() != 0 {
		t.Errorf("%d records taken from a malformed message", s.Len())
	}
}

func TestMergeAllocatesNothingForWhatIsKnown(t *testing.T) {
	var s legacy.State
	for i := range 100 {
		merge(t, &s, entry(fmt.Sprintf("dns/local/A/n%d.test.k8s.local", i), "10.0.0.1", 7))
	}
	message := s.Append(nil)
	got := testing.AllocsPerRun(10, func() {
		if _, err := s.Merge(message); err != nil {
			t.Fatal(err)
		}
	})
	// The closures of the two passes; nothing that grows with the message.
	if got > 5 {
		t.Errorf("%v allocations to merge 100 known records", got)
	}
}

func TestTwoWritesInOneSecondConverge(t *testing.T) {
	var writer, reader legacy.State
	for _, value := range []string{"10.0.0.1", "10.0.0.2"} {
		if changed, err := writer.Put("k", value, noon); err != nil || !changed {
			t.Fatalf("Put = %v, %v", changed, err)
		}
		if _, err := reader.Merge(writer.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := reader.Get("k")
	want := legacy.Record{Value: "10.0.0.2", Version: uint64(noon.Unix()) + 1}
	if got != want {
		t.Errorf("reader holds %v, want %v", got, want)
	}
}

func TestWritesExceedTheVersionTheyReplace(t *testing.T) {
	for _, tc := range []struct {
		name string
		held uint64
		want uint64
	}{
		{"an older record gives way to the clock", 5, uint64(noon.Unix())},
		{"a record of this second is counted on from", uint64(noon.Unix()), uint64(noon.Unix()) + 1},
		{"a record of the future is counted on from", math.MaxUint64 - 1, math.MaxUint64},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s legacy.State
			merge(t, &s, entry("k", "held", tc.held))
			if _, err := s.Delete("k", noon); err != nil {
				t.Fatal(err)
			}
			want := legacy.Record{Tombstone: true, Version: tc.want}
			if got, _ := s.Get("k"); got != want {
				t.Errorf("holds %v, want %v", got, want)
			}
		})
	}
}

func TestWritingSaysWhenAKeyIsPoisoned(t *testing.T) {
	var s legacy.State
	merge(t, &s, entry("k", "held", math.MaxUint64))
	if _, err := s.Put("k", "mine", noon); !errors.Is(err, legacy.ErrOutbid) {
		t.Errorf("Put over the greatest version: %v, want ErrOutbid", err)
	}
}

func TestWritingWhatIsThereChangesNothing(t *testing.T) {
	var s legacy.State
	merge(t, &s, entry("k", "v", 3))
	if changed, err := s.Put("k", "v", noon); changed || err != nil {
		t.Errorf("Put = %v, %v; want no change", changed, err)
	}
	if got, _ := s.Get("k"); got.Version != 3 {
		t.Errorf("version %d, want 3", got.Version)
	}
}

func TestAStateIsBounded(t *testing.T) {
	var s legacy.State
	if m := merge(t, &s, entry("big", strings.Repeat("x", legacy.MaxRecordBytes), 1)); m.Refused != 1 || s.Len() != 0 {
		t.Errorf("took a record over the bound: %+v", m)
	}
	chunk := strings.Repeat("x", legacy.MaxRecordBytes-64)
	refused := 0
	for i := range legacy.MaxStateBytes/len(chunk) + 10 {
		refused += merge(t, &s, entry(fmt.Sprint(i), chunk, 1)).Refused
	}
	if refused == 0 || s.Size() > legacy.MaxStateBytes {
		t.Errorf("%d records refused, %d bytes held", refused, s.Size())
	}
	if _, err := s.Delete("0", noon); err != nil {
		t.Errorf("a full state refuses a deletion: %v", err)
	}
}

func TestFormatAddrsSortsAndRemovesDoubles(t *testing.T) {
	addr := netip.MustParseAddr
	got := legacy.FormatAddrs([]netip.Addr{addr("10.0.0.9"), addr("10.0.0.10"), addr("::ffff:10.0.0.9")})
	if want := "10.0.0.10,10.0.0.9"; got != want {
		t.Errorf("FormatAddrs = %q, want %q", got, want)
	}
}

func TestCompareReportsWhatAReaderWouldSeeDifferently(t *testing.T) {
	dead := legacy.Record{Tombstone: true, Version: 9}
	primary := []legacy.Entry{entry("same", "1", 1), entry("other", "1", 1), entry("first", "1", 1), {Key: "gone", Record: dead}}
	secondary := []legacy.Entry{entry("same", "1", 2), entry("other", "2", 1), entry("second", "1", 1), {Key: "first", Record: dead}}
	got := legacy.Compare(primary, secondary)
	want := []legacy.Difference{
		{Key: "first", Primary: &legacy.Record{Value: "1", Version: 1}, Secondary: &dead},
		{Key: "other", Primary: &legacy.Record{Value: "1", Version: 1}, Secondary: &legacy.Record{Value: "2", Version: 1}},
		{Key: "second", Secondary: &legacy.Record{Value: "1", Version: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}

func drawEntries(t *rapid.T, label string) []legacy.Entry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) legacy.Entry {
		e := legacy.Entry{Key: rapid.SampledFrom([]string{"", "a", "b", "dns/local/A/c.local"}).Draw(t, "key")}
		e.Version = rapid.Uint64Range(0, 6).Draw(t, "version")
		// One value a version: what well-behaved writers produce, and the
		// only case in which the wire rule converges.
		e.Value = fmt.Sprintf("%s-%d", e.Key, e.Version)
		if e.Version%3 == 0 {
			e.Tombstone, e.Value = true, ""
		}
		return e
	}), 0, 12).Draw(t, label)
}

func TestMergingConvergesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawEntries(t, "a"), drawEntries(t, "b")
		var ab, ba legacy.State
		for _, step := range []struct {
			s *legacy.State
			e []legacy.Entry
		}{{&ab, a}, {&ab, b}, {&ba, b}, {&ba, a}, {&ba, b}} {
			if _, err := step.s.Merge(legacy.Append(nil, step.e...)); err != nil {
				t.Fatal(err)
			}
		}
		if string(ab.Append(nil)) != string(ba.Append(nil)) {
			t.Fatalf("order matters:\n%v\n%v", ab.Entries(), ba.Entries())
		}
		if ab.Size() != len(ab.Append(nil)) {
			t.Fatalf("Size %d, encoded %d", ab.Size(), len(ab.Append(nil)))
		}
	})
}

func TestEntriesSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) legacy.Entry {
			return legacy.Entry{Key: rapid.String().Draw(t, "key"), Record: legacy.Record{
				Value:     string(rapid.SliceOf(rapid.Byte()).Draw(t, "value")),
				Tombstone: rapid.Bool().Draw(t, "tombstone"),
				Version:   rapid.Uint64().Draw(t, "version"),
			}}
		}), 1, 5).Draw(t, "entries")
		got, err := legacy.Decode(legacy.Append(nil, want...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
	})
}

func FuzzMerge(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(f, v.bytes))
	}
	f.Add([]byte{0x0a, 0x03, 0x0a, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, message []byte) {
		var entries []legacy.Entry
		var s legacy.State
		var m legacy.Merged
		var err, mergeErr error
		grown := alloctest.By(func() {
			entries, err = legacy.Decode(message)
			m, mergeErr = s.Merge(message)
		})
		// The shortest entry has two bytes, what holds it some two hundred.
		if most := uint64(128<<10 + 512*len(message)); grown > most {
			t.Fatalf("%d bytes allocated to read %d, at most %d", grown, len(message), most)
		}
		if (err == nil) != (mergeErr == nil) {
			t.Fatalf("Decode says %v, Merge says %v", err, mergeErr)
		}
		if err != nil {
			return
		}
		if len(m.Changed)+m.Refused > len(entries) {
			t.Fatalf("%d changed and %d refused of %d", len(m.Changed), m.Refused, len(entries))
		}
		encoded := s.Append(nil)
		if len(encoded) != s.Size() {
			t.Fatalf("Size %d, encoded %d", s.Size(), len(encoded))
		}
		var again legacy.State
		if _, err := again.Merge(encoded); err != nil || string(again.Append(nil)) != string(encoded) {
			t.Fatalf("own encoding does not come back: %v", err)
		}
	})
}
