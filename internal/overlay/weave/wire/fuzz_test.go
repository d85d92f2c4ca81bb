package wire

import (
	"bufio"
	"bytes"
	"io"
	"testing"

	"github.com/muster-dev/muster/internal/overlay/alloctest"
)

func bufioReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 512) }

func FuzzParseMessage(f *testing.F) {
	for _, v := range messageVectors {
		f.Add(unhex(f, v.dump))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var m Message
		var err error
		checkCost(t, len(frame), func() { m, err = ParseMessage(frame) })
		if err != nil {
			return
		}
		again, err := ParseMessage(m.Append(nil))
		if err != nil || again.Tag != m.Tag || again.Channel != m.Channel || again.From != m.From || again.To != m.To || !bytes.Equal(again.Data, m.Data) {
			t.Fatalf("%v encoded and parsed again is %v, %v", m, again, err)
		}
	})
}

func FuzzParseFeatures(f *testing.F) {
	f.Add(unhex(f, captureFeatures))
	f.Add(observer.Append(nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var got Features
		var err error
		checkCost(t, len(frame), func() { got, err = ParseFeatures(frame) })
		if err != nil {
			return
		}
		again, err := ParseFeatures(got.Append(nil))
		if err != nil || again != got {
			t.Fatalf("%v encoded and parsed again is %v, %v", got, again, err)
		}
	})
}

func FuzzParseUpdate(f *testing.F) {
	f.Add(unhex(f, captureUpdate))
	a := NameOf("a")
	f.Add(gobOf(f, refPeer{NameByte: a[:], Extra: map[string][]int{"x": {1}}}, []refLink{{NameByte: a[:]}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var u *Update
		var want []Record
		size := 0
		var err error
		checkCost(t, len(data), func() {
			if u, err = ParseUpdate(data); err != nil {
				return
			}
			for i := range u.Heads {
				var r Record
				if r, err = u.Record(i); err != nil {
					return
				}
				size += len(r.Links)
				want = append(want, r)
			}
		})
		if err != nil {
			return
		}
		var encoded []Encoded
		for _, r := range want {
			encoded = append(encoded, r.Encode())
		}
		if size > len(data) {
			t.Fatalf("%d connections out of %d bytes", size, len(data))
		}
		again, err := ParseUpdate(AppendUpdate(nil, encoded))
		if err != nil || len(again.Heads) != len(want) {
			t.Fatalf("own encoding is read as %v, %v", again, err)
		}
	})
}

// FuzzRead feeds a session whatever may arrive on a socket, before and after
// the key is agreed.
func FuzzRead(f *testing.F) {
	f.Add([]byte("weave\x01\x02\x01"), true)
	f.Add(unhex(f, "77656176650102 01", captureServerPublic, capturePeerFramed), true)
	f.Add(unhex(f, "77656176650102 01", dialerPublic, "0000001173547644ea54e4964bbe97888088e18ac0"), false)
	f.Fuzz(func(t *testing.T, stream []byte, dialer bool) {
		own := acceptorPrivate
		if dialer {
			own = dialerPrivate
		}
		key := privateKey(t, own)
		checkCost(t, len(stream), func() {
			s, err := Handshake(&script{Reader: bytes.NewReader(stream)}, dialer, []byte("s3cret"), key)
			if err != nil {
				return
			}
			if _, err := s.Exchange(nodeA); err != nil {
				return
			}
			for range 100 {
				if _, err := s.Read(); err != nil {
					return
				}
			}
		})
	})
}

// checkCost fails if f, which reads so many bytes, allocates out of proportion.
func checkCost(t *testing.T, size int, f func()) {
	t.Helper()
	if grown, most := alloctest.By(f), uint64(128<<10+64*size); grown > most {
		t.Fatalf("%d bytes allocated to read %d, at most %d", grown, size, most)
	}
}
