package wire

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
)

// Bounds on an exchange; the first two are upstream's.
const (
	MaxStream  = 20 << 20 // bytes received
	MaxPlain   = 40 << 20 // bytes decompressed
	MaxMembers = 10_000   // overlays break down far below, by their quadratic costs
)

// Bounds on a member's description, in bytes.
const (
	maxName = 4 << 10
	maxAddr = 16
)

// Message types on a stream.
const (
	typePushPull   = 6
	typeCompressed = 9
	typeEncrypted  = 10
	typeError      = 13
	typeLabel      = 244
)

// ErrEncrypted is returned for a peer with encryption or a label. kOps's programs use neither, so it belongs to
// another overlay, if any.
var ErrEncrypted = errors.New("peer speaks an encrypted or labelled overlay, which kOps's never is")

// Status is a member's status as seen by a peer.
type Status uint8

// Statuses on the wire.
const (
	Alive   Status = 0
	Suspect Status = 1
	Dead    Status = 2
	Left    Status = 3
)

// String returns the status as in output.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

var statusNames = [...]string{"alive", "suspect", "dead", "left"}

// MarshalText encodes the status's name, for JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Member is a member as described by a peer.
type Member struct {
	Name        string
	Addr        netip.AddrPort // invalid if the description has no valid address
	Incarnation uint32
	Status      Status
}

// Exchange is one side of a push/pull.
type Exchange struct {
	Join    bool
	Members []Member
	State   []byte // an encoded full state
}

// AppendRequest appends a push/pull without members that does not join: the peer merges state, if there is any, and
// answers with all that it has, without counting us as a member.
func AppendRequest(dst, state []byte) []byte {
	dst = appendMap(append(dst, typePushPull), 3)
	dst = appendBool(appendKey(dst, "Join"), false)
	dst = appendUint(appendKey(dst, "Nodes"), 0)
	dst = appendUint(appendKey(dst, "UserStateLen"), uint64(len(state)))
	return append(dst, state...)
}

// ReadExchange reads one side of a push/pull, compressed or not. It may read more of r than it needs. The reader must
// have a deadline.
func ReadExchange(r io.Reader) (Exchange, error) { return readExchange(r, MaxStream, MaxPlain) }

func readExchange(r io.Reader, maxStream, maxPlain int) (Exchange, error) {
	d := decoder{bufio.NewReader(&limitedReader{r, maxStream})}
	tag, err := d.byte()
	if err == nil && tag == typeCompressed {
		if d, err = d.decompress(maxPlain); err == nil {
			tag, err = d.byte()
		}
	}
	if err != nil {
		return Exchange{}, fmt.Errorf("read push/pull: %w", err)
	}
	var x Exchange
	switch tag {
	case typePushPull:
		x, err = d.exchange()
	case typeError:
		err = d.refusal()
	case typeEncrypted, typeLabel:
		err = ErrEncrypted
	default:
		err = fmt.Errorf("type %d is not a push/pull", tag)
	}
	if err != nil {
		return Exchange{}, fmt.Errorf("read push/pull: %w", err)
	}
	return x, nil
}

// decompress returns a decoder of a compressed message, limited to maxPlain bytes.
func (d decoder) decompress(maxPlain int) (decoder, error) {
	var compressed []byte
	err := d.fields(func(key string) (err error) {
		switch key {
		case "Algo":
			_, err = d.uint(0) // LZW, the only one
		case "Buf":
			compressed, err = d.raw(MaxStream)
		default:
			err = d.skip(0)
		}
		return fieldError(key, err)
	})
	if err != nil {
		return decoder{}, fmt.Errorf("compressed message: %w", err)
	}
	plain := lzw.NewReader(bytes.NewReader(compressed), lzw.LSB, 8)
	return decoder{bufio.NewReader(&limitedReader{plain, maxPlain})}, nil
}

func (d decoder) exchange() (x Exchange, err error) {
	var members, state uint64
	err = d.fields(func(key string) (err error) {
		switch key {
		case "Join":
			x.Join, err = d.bool()
		case "Nodes":
			members, err = d.uint(MaxMembers)
		case "UserStateLen":
			state, err = d.uint(MaxStream)
		default:
			err = d.skip(0)
		}
		return fieldError(key, err)
	})
	if err != nil {
		return Exchange{}, err
	}
	for i := range members {
		m, err := d.member()
		if err != nil {
			return Exchange{}, fmt.Errorf("member %d of %d: %w", i+1, members, err)
		}
		x.Members = append(x.Members, m)
	}
	if x.State, err = readExactly(d.in, int(state)); err != nil {
		return Exchange{}, fmt.Errorf("state of %d bytes: %w", state, err)
	}
	return x, nil
}

func (d decoder) member() (m Member, err error) {
	var addr []byte
	var port uint64
	err = d.fields(func(key string) (err error) {
		var v uint64
		switch key {
		case "Name":
			var name []byte
			name, err = d.raw(maxName)
			m.Name = string(name)
		case "Addr":
			addr, err = d.raw(maxAddr)
		case "Port":
			port, err = d.uint(math.MaxUint16)
		case "Incarnation":
			v, err = d.uint(math.MaxUint32)
			m.Incarnation = uint32(v)
		case "State":
			v, err = d.uint(math.MaxUint8)
			m.Status = Status(v)
		default:
			err = d.skip(0)
		}
		return fieldError(key, err)
	})
	if ip, ok := netip.AddrFromSlice(addr); ok {
		m.Addr = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return m, err
}

// refusal returns the error sent by the peer.
func (d decoder) refusal() error {
	var text []byte
	err := d.fields(func(key string) (err error) {
		if key == "Error" {
			text, err = d.raw(maxName)
			return err
		}
		return d.skip(0)
	})
	if err != nil {
		return err
	}
	return fmt.Errorf("peer refused: %q", text)
}

func fieldError(key string, err error) error {
	if err != nil {
		return fmt.Errorf("field %q: %w", key, err)
	}
	return nil
}

var errTooLong = errors.New("longer than allowed")

// limitedReader reads from r, and fails after left bytes.
type limitedReader struct {
	r    io.Reader
	left int
}

func (b *limitedReader) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
