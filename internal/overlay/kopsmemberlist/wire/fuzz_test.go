package wire

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"encoding/hex"
	"testing"

	"github.com/muster-dev/muster/internal/overlay/alloctest"
	"github.com/muster-dev/muster/internal/overlay/legacy"
)

func newReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// pack wraps a message as kOps does with all that it says over TCP.
func pack(t testing.TB, message []byte) []byte {
	t.Helper()
	var compressed bytes.Buffer
	w := lzw.NewWriter(&compressed, lzw.LSB, 8)
	if _, err := w.Write(message); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := appendUint(appendKey(appendMap([]byte{typeCompressed}, 2), "Algo"), 0)
	b = append(appendKey(b, "Buf"), 0xdb, byte(compressed.Len()>>24), byte(compressed.Len()>>16), byte(compressed.Len()>>8), byte(compressed.Len()))
	return append(b, compressed.Bytes()...)
}

func FuzzParsePart(f *testing.F) {
	f.Add(unhex(f, dumpMarker)[2:])
	f.Add(unhex(f, dumpRequestState)[2:])
	f.Add([]byte{0x0a, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, message []byte) {
		p, err := ParsePart(message)
		if err != nil {
			return
		}
		again, err := ParsePart(AppendPart(nil, p))
		if err != nil || again.Key != p.Key || !bytes.Equal(again.Data, p.Data) {
			t.Fatalf("%v encoded and parsed again is %v, %v", p, again, err)
		}
	})
}

func FuzzScanFullState(f *testing.F) {
	f.Add(unhex(f, dumpMarker))
	f.Add(AppendFullState(nil, Part{Key: "other"}, Part{Key: legacy.Channel, Data: legacy.Append(nil, legacy.Entry{Key: "k"})}))
	f.Fuzz(func(t *testing.T, message []byte) {
		var parts []Part
		size := 0
		if err := ScanFullState(message, func(p Part) error {
			parts = append(parts, p)
			size += len(p.Key) + len(p.Data)
			return nil
		}); err != nil {
			return
		}
		if size > len(message) {
			t.Fatalf("%d bytes of parts out of %d", size, len(message))
		}
		count := 0
		if err := ScanFullState(AppendFullState(nil, parts...), func(p Part) error {
			if p.Key != parts[count].Key || !bytes.Equal(p.Data, parts[count].Data) {
				t.Fatalf("part %d is %v, was %v", count, p, parts[count])
			}
			count++
			return nil
		}); err != nil || count != len(parts) {
			t.Fatalf("%d of %d parts come back: %v", count, len(parts), err)
		}
	})
}

// FuzzReadExchange reads a stream as it may come from anybody, plain and, to
// reach what lies within, packed by us.
func FuzzReadExchange(f *testing.F) {
	f.Add(unhex(f, dumpPacked))
	f.Add(unhex(f, dumpRequest))
	f.Add(unhex(f, dumpHead, hex.EncodeToString([]byte(capturedName)), dumpTail))
	f.Add(unhex(f, `0d 81 a54572726f72 a46e6f7065`))
	f.Add(unhex(f, `06 82 a46e6f7665 de0001a161dd00000001c0 a54e6f646573 00`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, s := range [][]byte{stream, pack(t, stream)} {
			var x Exchange
			var err error
			if grown, most := alloctest.By(func() { x, err = ReadExchange(bytes.NewReader(s)) }), mostFor(len(s)); grown > most {
				t.Fatalf("%d bytes allocated for %d, at most %d", grown, len(s), most)
			}
			if err != nil {
				continue
			}
			if len(x.Members) > MaxMembers || len(x.State) > MaxStream {
				t.Fatalf("%d members and a state of %d bytes", len(x.Members), len(x.State))
			}
			if again, err := ReadExchange(bytes.NewReader(AppendRequest(nil, x.State))); err != nil || !bytes.Equal(again.State, x.State) {
				t.Fatalf("the state does not come back: %v", err)
			}
		}
	})
}

// mostFor is what reading a stream of so many bytes may allocate: a full list of
// members, and a few times what the stream can unpack to. Every code of LZW, of
// at least nine bits, stands for at most one byte more than the longest before.
func mostFor(size int) uint64 {
	codes := uint64(size)
	unpacked := min(codes*codes/2, 4096*codes, MaxPlain)
	return 4<<20 + 4*(codes+unpacked)
}
