package wire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func newKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestHandshakeFaultsAreToldApart(t *testing.T) { // A3, and the list of what kOps peers tolerate
	public := newKey(t).PublicKey().Bytes()
	with := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  error // nil: some error
		text  string
	}{
		{"another protocol", []byte("SSH-2.0-OpenSSH"), nil, "not the greeting"},
		{"version 1 only", []byte("weave\x01\x01"), ErrVersion, ""},
		{"version 3 and up", []byte("weave\x03\x03"), ErrVersion, ""},
		{"no encryption", with([]byte("weave\x01\x02\x00")), ErrPlaintext, ""},
		{"an unknown encryption flag", with([]byte("weave\x01\x02\x02")), nil, "flag 2"},
		{"a key cut off", with([]byte("weave\x01\x02\x01"), public[:31]), io.ErrUnexpectedEOF, ""},
		{"a key that would make the session key a constant", with([]byte("weave\x01\x02\x01"), make([]byte, 32)), nil, "public key"},
		{"nothing", nil, io.EOF, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Handshake(&script{Reader: bytes.NewReader(tc.bytes)}, true, nil, newKey(t))
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Handshake: %v, want %v %q", err, tc.want, tc.text)
			}
		})
	}
}

func TestVersionsThatIncludeTwoAreAccepted(t *testing.T) {
	for _, hello := range []string{"weave\x01\x02", "weave\x02\x02", "weave\x02\x09", "weave\x01\x03"} {
		if err := checkPreamble([]byte(hello)); err != nil {
			t.Errorf("%q: %v", hello, err)
		}
	}
}

// pair returns two sessions past the handshake.
func pair(t testing.TB, secretA, secretB string) (a, b *Session) {
	t.Helper()
	left, right := net.Pipe()
	t.Cleanup(func() { left.Close(); right.Close() })
	deadline := time.Now().Add(10 * time.Second)
	if err := errors.Join(left.SetDeadline(deadline), right.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		b, err = Handshake(right, false, []byte(secretB), newKey(t))
		done <- err
	}()
	a, err := Handshake(left, true, []byte(secretA), newKey(t))
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestAWrongSecretShowsInTheFirstFrame(t *testing.T) {
	a, b := pair(t, "right", "wrong")
	done := make(chan error, 1)
	go func() {
		_, err := b.Exchange(nodeA)
		done <- err
	}()
	_, err := a.Exchange(observer)
	if !errors.Is(err, ErrSecret) || !errors.Is(<-done, ErrSecret) {
		t.Errorf("Exchange: %v, want ErrSecret on both sides", err)
	}
}

func TestFramesOfAllSizesSurvive(t *testing.T) {
	a, b := pair(t, "", "")
	for _, size := range []int{0, 1, 500, 5000, 100_000, MaxPlain} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		done := make(chan error, 1)
		go func() {
			_, err := a.Write(want)
			done <- err
		}()
		got, err := b.Read()
		if err := errors.Join(err, <-done); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("frame of %d bytes arrived as %d, %v", size, len(got), err)
		}
	}
	if _, err := a.Write(make([]byte, MaxPlain+1)); err == nil {
		t.Error("a frame over the limit was sent")
	}
	if cap(a.out) > maxKeptBuffer || cap(b.sealed) > maxKeptBuffer {
		t.Error("a session holds on to a large buffer")
	}
}

func TestAReplayedFrameDoesNotOpen(t *testing.T) {
	conn := &script{Reader: strings.NewReader("")}
	a := &Session{conn: conn}
	if _, err := a.Write([]byte("once")); err != nil {
		t.Fatal(err)
	}
	frame := conn.sent.String()
	conn.Reader = strings.NewReader(frame + frame)
	b := &Session{}
	b.in = bufioReader(conn)
	if _, err := b.Read(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(); err == nil {
		t.Error("the same frame opened twice")
	}
}

func TestAnAnnouncedLengthIsNotAllocated(t *testing.T) {
	buf, err := readGrowing(strings.NewReader(strings.Repeat("x", 100)), nil, MaxFrame)
	if !errors.Is(err, io.ErrUnexpectedEOF) || cap(buf) > 16<<10 {
		t.Errorf("100 of 10 MiB arrived: %v, %d bytes held", err, cap(buf))
	}
}

func TestFramesOverTheLimitAreErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		length uint32
		limit  int
	}{
		{"any frame", MaxFrame + 1, MaxFrame},
		{"the first frame, before the secret has been shown", maxFirst + 1, maxFirst},
		{"a length that would be negative", 1 << 31, MaxFrame},
	} {
		t.Run(tc.name, func(t *testing.T) {
			head := binary.BigEndian.AppendUint32(nil, tc.length)
			s := &Session{in: bufioReader(bytes.NewReader(append(head, make([]byte, 100)...)))}
			if _, err := s.read(tc.limit); err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("read: %v", err)
			}
		})
	}
}
