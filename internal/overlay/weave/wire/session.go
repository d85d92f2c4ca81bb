package wire

import (
	"bufio"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// Bounds on frames.
const (
	// MaxFrame is the maximum length of a frame's body in bytes, including encryption.
	MaxFrame = 10 << 20
	// MaxPlain is the maximum length of a frame's content in bytes.
	MaxPlain = MaxFrame - secretbox.Overhead
	// maxFirst bounds the first frame, which holds the features: until it has been decrypted, the other end has not
	// shown that it knows the secret.
	maxFirst = 64 << 10
	// maxKeptBuffer is the largest buffer that a session keeps.
	maxKeptBuffer = 4 << 10
)

// Errors of a handshake that callers may want to tell apart.
var (
	// ErrVersion is returned if the other end does not speak version 2.
	ErrVersion = errors.New("peer does not speak version 2 of the protocol")
	// ErrPlaintext is returned if the other end does not encrypt. All of kOps's programs do: without a secret, they
	// use an empty one.
	ErrPlaintext = errors.New("peer does not encrypt")
	// ErrSecret is returned if the other end's first frame does not decrypt.
	ErrSecret = errors.New("peer uses another secret")
)

// preamble is what both ends send first: a magic word, and the lowest and highest version spoken.
const preamble = "weave\x02\x02"

// Session is an encrypted connection after the handshake. One goroutine may read from it while another writes to it.
type Session struct {
	conn io.Writer
	in   *bufio.Reader

	key                  [32]byte
	sendNonce, recvNonce [24]byte
	sent, received       uint64 // frames so far

	out, sealed, plain []byte // buffers of Write and Read
}

// Handshake agrees on a session key with the other end, from new key pairs and the shared secret, which may be empty.
// It sends and receives concurrently. conn must have a deadline: Handshake returns only when both are done.
func Handshake(conn io.ReadWriter, dialer bool, secret []byte, own *ecdh.PrivateKey) (*Session, error) {
	s := &Session{conn: conn, in: bufio.NewReaderSize(conn, 512)}
	s.sendNonce[0], s.recvNonce[0] = 0x40, 0xc0
	if dialer {
		s.sendNonce[0], s.recvNonce[0] = 0xc0, 0x40
	}
	hello := make([]byte, len(preamble))
	if err := s.exchange([]byte(preamble), func() error { return s.readFull(hello) }); err != nil {
		return nil, fmt.Errorf("exchange versions: %w", err)
	}
	if err := checkPreamble(hello); err != nil {
		return nil, err
	}
	var public []byte
	err := s.exchange(append([]byte{1}, own.PublicKey().Bytes()...), func() (err error) {
		public, err = s.readKey()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("exchange keys: %w", err)
	}
	s.key, err = sessionKey(own, public, secret)
	return s, err
}

func checkPreamble(b []byte) error {
	if string(b[:5]) != preamble[:5] {
		return fmt.Errorf("%q is not the greeting of a mesh peer", b[:5])
	}
	if lo, hi := b[5], b[6]; lo > 2 || hi < 2 {
		return fmt.Errorf("%w, only %d to %d", ErrVersion, lo, hi)
	}
	return nil
}

// exchange writes b while it reads. Over TCP a write of a few bytes does not block, but neither end may rely on the
// other reading first.
func (s *Session) exchange(b []byte, read func() error) error {
	wrote := make(chan error, 1)
	go func() {
		_, err := s.conn.Write(b)
		wrote <- err
	}()
	err := read()
	return errors.Join(err, <-wrote)
}

func (s *Session) readFull(b []byte) error {
	_, err := io.ReadFull(s.in, b)
	return err
}

func (s *Session) readKey() ([]byte, error) {
	flag, err := s.in.ReadByte()
	if err != nil {
		return nil, err
	}
	switch flag {
	case 0:
		return nil, ErrPlaintext
	case 1:
		key := make([]byte, 32)
		return key, s.readFull(key)
	}
	return nil, fmt.Errorf("encryption flag %d", flag)
}

// sessionKey returns the SHA-256 of the key agreed on by both key pairs and the secret.
func sessionKey(own *ecdh.PrivateKey, public, secret []byte) (key [32]byte, err error) {
	shared, err := sharedKey(own, public)
	if err != nil {
		return key, fmt.Errorf("peer's public key: %w", err)
	}
	return sha256.Sum256(append(shared[:], secret...)), nil
}

// sharedKey is the precomputed NaCl box key.
func sharedKey(own *ecdh.PrivateKey, public []byte) (shared [32]byte, err error) {
	remote, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return shared, err
	}
	// Precompute accepts public keys that make the result a constant, which anybody could know. ECDH refuses them.
	if _, err := own.ECDH(remote); err != nil {
		return shared, err
	}
	box.Precompute(&shared, (*[32]byte)(remote.Bytes()), (*[32]byte)(own.Bytes()))
	return shared, nil
}

// Exchange sends our features and returns the other end's: the first frame in each direction. If the other end's does
// not decrypt, the error is ErrSecret.
func (s *Session) Exchange(own Features) (Features, error) {
	frame := s.seal(own.Append(nil))
	var remote Features
	err := s.exchange(frame, func() error {
		plain, err := s.read(maxFirst)
		if err != nil {
			return err
		}
		remote, err = ParseFeatures(plain)
		return err
	})
	if err != nil {
		return remote, fmt.Errorf("exchange features: %w", err)
	}
	return remote, nil
}

// Read returns the content of the next frame, which may be empty. It is valid until the next call.
func (s *Session) Read() ([]byte, error) { return s.read(MaxFrame) }

func (s *Session) read(limit int) ([]byte, error) {
	s.plain = shrink(s.plain) // the read may block for long
	var head [4]byte
	if err := s.readFull(head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(limit) {
		return nil, fmt.Errorf("frame of %d bytes; at most %d", n, limit)
	}
	var err error
	if s.sealed, err = readGrowing(s.in, s.sealed[:0], int(n)); err != nil {
		return nil, fmt.Errorf("frame of %d bytes: %w", n, err)
	}
	binary.BigEndian.PutUint64(s.recvNonce[16:], s.received)
	plain, ok := secretbox.Open(s.plain, s.sealed, &s.recvNonce, &s.key)
	if !ok {
		if s.received == 0 {
			return nil, ErrSecret
		}
		return nil, errors.New("frame does not open: damaged or forged")
	}
	s.plain, s.sealed = plain, shrink(s.sealed)
	s.received++
	return plain, nil
}

// readGrowing reads n bytes into buf, growing it only as bytes arrive: a peer that announces ten megabytes must send
// them to make us hold them.
func readGrowing(r io.Reader, buf []byte, n int) ([]byte, error) {
	const first = 4 << 10
	for len(buf) < n {
		step := min(n-len(buf), max(len(buf), first))
		if need := len(buf) + step; cap(buf) < need {
			buf = append(make([]byte, 0, need), buf...)
		}
		have := len(buf)
		buf = buf[:have+step]
		if _, err := io.ReadFull(r, buf[have:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf[:have], err
		}
	}
	return buf, nil
}

// shrink empties a buffer, or drops it if it is large: most frames are small, and a mesh peer has many sessions.
func shrink(b []byte) []byte {
	if cap(b) > maxKeptBuffer {
		return nil
	}
	return b[:0]
}

// Write sends one frame and returns its length on the wire in bytes.
func (s *Session) Write(plain []byte) (int, error) {
	if len(plain) > MaxPlain {
		return 0, fmt.Errorf("frame of %d bytes; at most %d fit", len(plain), MaxPlain)
	}
	n, err := s.conn.Write(s.seal(plain))
	s.out = shrink(s.out)
	return n, err
}

// seal returns the next frame. It is valid until the next call.
func (s *Session) seal(plain []byte) []byte {
	size := len(plain) + secretbox.Overhead
	out := s.out[:0]
	if cap(out) < 4+size {
		out = make([]byte, 0, 4+size)
	}
	out = binary.BigEndian.AppendUint32(out, uint32(size))
	binary.BigEndian.PutUint64(s.sendNonce[16:], s.sent)
	s.sent++
	s.out = secretbox.Seal(out, plain, &s.sendNonce, &s.key)
	return s.out
}
