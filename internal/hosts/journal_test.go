package hosts

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestDecodeChangeReadsWhatWasEncoded(t *testing.T) {
	want := change{path: "/etc/hosts", old: []byte("a\xff\x00\r\n"), next: []byte("b")}
	data, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeChange(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.path != want.path || !bytes.Equal(got.old, want.old) || !bytes.Equal(got.next, want.next) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDecodeChangeRefusesAnyDamage(t *testing.T) {
	data, err := change{path: "/etc/hosts", old: []byte("old\n"), next: []byte("next\n")}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		flipped := bytes.Clone(data)
		flipped[i] ^= 1
		if _, err := decodeChange(flipped); !errors.Is(err, errDamaged) {
			t.Errorf("with byte %d changed: got error %v, want errDamaged", i, err)
		}
		if _, err := decodeChange(data[:i]); !errors.Is(err, errDamaged) {
			t.Errorf("cut to %d bytes: got error %v, want errDamaged", i, err)
		}
	}
	if _, err := decodeChange(append(data, 'x')); !errors.Is(err, errDamaged) {
		t.Errorf("with a byte more: got error %v, want errDamaged", err)
	}
}

func TestClassify(t *testing.T) {
	short := "127.0.0.1 localhost\n" + begin + "10.0.0.1\tapi.x\n" + end + "tail\n"
	long := "127.0.0.1 localhost\n" + begin + "10.0.0.1\tapi.x\n10.0.0.2\tapi.x\n" + end + "tail\n"
	a, b := strings.Repeat("a", 3*sector), strings.Repeat("b", 3*sector)
	tests := []struct {
		name            string
		old, next, have string
		want            fileState
	}{
		{"the old content", short, long, short, stateOld},
		{"the new content", short, long, long, stateNext},
		{"a growing write cut inside the old size", short, long, long[:95] + short[95:], stateTorn},
		{"a growing write cut beyond the old size", short, long, long[:len(short)+3], stateTorn},
		{"a shrinking write cut half-way", long, short, short[:95] + long[95:], stateTorn},
		{"a shrinking write without its truncation", long, short, short + strings.Repeat("\n", len(long)-len(short)), stateTorn},
		{"a shrinking write cut in the padding", long, short, short + "\n\n" + long[len(short)+2:], stateTorn},
		{"a first write into an empty file", "", long, long[:50], stateTorn},
		{"a taking-out cut half-way", long, "tail\n", "tail\n\n\n" + long[7:], stateTorn},
		{"sectors of both in any order", a, b, b[:sector] + a[:sector] + b[:sector], stateTorn},
		{"sectors of both, already truncated", a + a, b, a[:sector] + b[:2*sector], stateTorn},
		{"an old file already truncated to the new size", a + a, b, a, stateTorn},
		{"zeros where the file has grown", a, a + b, a + strings.Repeat("\x00", len(b)), stateTorn},
		{"zeros in the last sector of the old content", a + "x", a + "xy" + b, a + "x\x00" + strings.Repeat("\x00", len(b)), stateTorn},
		{"a line appended to the old content", short, long, short + "1.2.3.4 x\n", stateForeign},
		{"a line appended to the new content", short, long, long + "1.2.3.4 x\n", stateForeign},
		{"a character changed in place", short, long, strings.Replace(short, "localhost", "localhosT", 1), stateForeign},
		{"a character changed in the tail of the new content", short, long, strings.Replace(long, "tail", "tall", 1), stateForeign},
		{"the block cut out", short, long, "127.0.0.1 localhost\ntail\n", stateForeign},
		{"an empty file", short, long, "", stateForeign},
		{"a tail of new after a head of old", a, b, a[:10] + b[10:], stateForeign},
		{"sectors of both with a foreign one", a, b, b[:sector] + strings.Repeat("c", sector) + b[:sector], stateForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := change{old: []byte(tt.old), next: []byte(tt.next)}
			if got := c.classify([]byte(tt.have)); got != tt.want {
				t.Errorf("got state %d, want %d", got, tt.want)
			}
		})
	}
}
