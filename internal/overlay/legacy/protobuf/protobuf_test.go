package protobuf

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func collect(message []byte) (fields []Field, err error) {
	err = Scan(message, func(f Field) error {
		fields = append(fields, f)
		return nil
	})
	return fields, err
}

func TestFieldsOfEveryWireTypeAreRead(t *testing.T) {
	message := []byte{
		0x08, 0xac, 0x02, // 1: 300
		0x12, 0x03, 'a', 'b', 'c', // 2: "abc"
		0x19, 1, 2, 3, 4, 5, 6, 7, 8, // 3: 64 bits
		0x25, 1, 2, 3, 4, // 4: 32 bits
		0x2a, 0x00, // 5: ""
	}
	want := []Field{
		{Num: 1, Type: Varint, Value: 300},
		{Num: 2, Type: Bytes, Data: []byte("abc")},
		{Num: 3, Type: Fixed64},
		{Num: 4, Type: Fixed32},
		{Num: 5, Type: Bytes, Data: []byte{}},
	}
	got, err := collect(message)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestMalformedMessagesAreErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		message []byte
	}{
		{"a tag without end", []byte{0x80}},
		{"a varint without end", []byte{0x08, 0xff}},
		{"a varint of eleven bytes", append([]byte{0x08}, bytes.Repeat([]byte{0xff}, 11)...)},
		{"a length without content", []byte{0x12, 0x03, 'a'}},
		{"a length of 2^63", []byte{0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}},
		{"64 bits cut off", []byte{0x09, 1, 2}},
		{"32 bits cut off", []byte{0x0d, 1, 2}},
		{"field number zero", []byte{0x00, 0x00}},
		{"a group", []byte{0x0b, 0x0c}},
		{"wire type 7", []byte{0x0f}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := collect(tc.message); err == nil {
				t.Errorf("read as %v", got)
			}
		})
	}
}

func TestAVisitorCanStopTheScan(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	err := Scan([]byte{0x08, 1, 0x08, 2}, func(Field) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Scan: %v after %d calls", err, calls)
	}
}

func TestWhatIsAppendedIsReadAndHasTheSizeThatWasSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		num := rapid.Int32Range(1, 1<<29-1).Draw(t, "number")
		value := rapid.OneOf(rapid.Uint64(), rapid.Just(uint64(math.MaxUint64))).Draw(t, "value")
		content := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content")
		message := AppendVarint(nil, num, value)
		if len(message) != SizeVarint(num, value) {
			t.Fatalf("varint of %d bytes, said %d", len(message), SizeVarint(num, value))
		}
		message = AppendBytes(message, num, content)
		if got, want := len(message), SizeVarint(num, value)+SizeBytes(num, len(content)); got != want {
			t.Fatalf("%d bytes, said %d", got, want)
		}
		got, err := collect(message)
		if err != nil {
			t.Fatal(err)
		}
		want := []Field{{Num: num, Type: Varint, Value: value}, {Num: num, Type: Bytes, Data: content}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("fields (-want +got):\n%s", diff)
		}
	})
}

func FuzzScan(f *testing.F) {
	f.Add([]byte{0x08, 0xac, 0x02, 0x12, 0x03, 'a', 'b', 'c', 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, message []byte) {
		size := 0
		if err := Scan(message, func(field Field) error {
			size += 1 + len(field.Data)
			return nil
		}); err == nil && size > len(message) {
			t.Fatalf("%d bytes of fields out of %d", size, len(message))
		}
	})
}
