package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// maxDepth bounds the nesting of values that are skipped.
const maxDepth = 16

// maxKey bounds a field's name, in bytes. The longest in use has twelve.
const maxKey = 64

// decoder reads msgpack as the overlay writes it: maps with field names, integers, booleans, and one family of
// strings for text and bytes. It also understands later additions to the format.
type decoder struct{ in *bufio.Reader }

func (d decoder) byte() (byte, error) {
	b, err := d.in.ReadByte()
	return b, truncated(err)
}

// truncated turns io.EOF in the middle of a value into io.ErrUnexpectedEOF.
func truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// number reads an integer of size bytes, at most 8.
func (d decoder) number(size int) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(d.in, b[8-size:]); err != nil {
		return 0, truncated(err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// fields reads a map and calls visit with each key; visit must read the value.
func (d decoder) fields(visit func(key string) error) error {
	tag, err := d.byte()
	if err != nil {
		return err
	}
	n := uint64(tag & 0x0f)
	switch {
	case tag&0xf0 == 0x80:
	case tag == 0xde:
		n, err = d.number(2)
	case tag == 0xdf:
		n, err = d.number(4)
	default:
		err = fmt.Errorf("%#02x where a map begins", tag)
	}
	for ; err == nil && n > 0; n-- {
		var key []byte
		if key, err = d.raw(maxKey); err == nil {
			err = visit(string(key))
		}
	}
	return err
}

// raw reads text or bytes, at most limit bytes.
func (d decoder) raw(limit int) ([]byte, error) {
	tag, err := d.byte()
	if err != nil {
		return nil, err
	}
	size, ok, err := d.rawSize(tag)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%#02x where text or bytes begin", tag)
	case size > uint64(limit):
		return nil, fmt.Errorf("%d bytes, at most %d", size, limit)
	}
	return readExactly(d.in, int(size))
}

// rawSize returns the length of the text or bytes that tag begins; ok is false if it begins something else.
func (d decoder) rawSize(tag byte) (size uint64, ok bool, err error) {
	switch {
	case tag&0xe0 == 0xa0:
		return uint64(tag & 0x1f), true, nil
	case tag == 0xc4, tag == 0xd9:
		size, err = d.number(1)
	case tag == 0xc5, tag == 0xda:
		size, err = d.number(2)
	case tag == 0xc6, tag == 0xdb:
		size, err = d.number(4)
	case tag == 0xc0: // nil: how the original writes an absent byte string
	default:
		return 0, false, nil
	}
	return size, err == nil, err
}

// readExactly reads size bytes. Its buffer grows with what arrives, not with the announced size.
func readExactly(in io.Reader, size int) ([]byte, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, in, int64(size)); err != nil {
		return nil, truncated(err)
	}
	return b.Bytes(), nil
}

// uint reads an integer from 0 to most.
func (d decoder) uint(most uint64) (uint64, error) {
	tag, err := d.byte()
	if err != nil {
		return 0, err
	}
	v := uint64(tag)
	switch {
	case tag <= 0x7f:
	case tag >= 0xcc && tag <= 0xcf:
		v, err = d.number(1 << (tag - 0xcc))
	case tag >= 0xd0 && tag <= 0xd3:
		// Signed: negative numbers exceed every bound here.
		size := 1 << (tag - 0xd0)
		if v, err = d.number(size); err == nil && v>>(8*size-1) == 1 {
			v = math.MaxUint64
		}
	default:
		err = fmt.Errorf("%#02x where a number of 0 or more begins", tag)
	}
	if err == nil && v > most {
		err = fmt.Errorf("number out of range, at most %d", most)
	}
	return v, err
}

func (d decoder) bool() (bool, error) {
	tag, err := d.byte()
	if err == nil && tag != 0xc2 && tag != 0xc3 {
		err = fmt.Errorf("%#02x where a truth value stands", tag)
	}
	return tag == 0xc3, err
}

// skip skips a value of any kind.
func (d decoder) skip(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tag, err := d.byte()
	if err != nil {
		return err
	}
	if size, ok, err := d.rawSize(tag); ok || err != nil {
		return d.discard(size, err)
	}
	var values uint64
	switch {
	case tag <= 0x7f, tag >= 0xe0, tag == 0xc2, tag == 0xc3:
		return nil
	case tag&0xf0 == 0x80:
		values = 2 * uint64(tag&0x0f)
	case tag&0xf0 == 0x90:
		values = uint64(tag & 0x0f)
	case tag == 0xca:
		return d.discard(4, nil)
	case tag == 0xcb:
		return d.discard(8, nil)
	case tag >= 0xcc && tag <= 0xd3:
		return d.discard(1<<((tag-0xcc)%4), nil)
	case tag == 0xdc, tag == 0xde:
		values, err = d.number(2)
	case tag == 0xdd, tag == 0xdf:
		values, err = d.number(4)
	default:
		return fmt.Errorf("%#02x begins no value", tag)
	}
	if tag == 0xde || tag == 0xdf {
		values *= 2
	}
	for ; err == nil && values > 0; values-- {
		err = d.skip(depth + 1)
	}
	return err
}

func (d decoder) discard(size uint64, err error) error {
	if err == nil {
		_, err = io.CopyN(io.Discard, d.in, int64(size))
	}
	return truncated(err)
}

// appendMap appends the header of a map with n fields, at most 15.
func appendMap(dst []byte, n int) []byte { return append(dst, 0x80|byte(n)) }

// appendKey appends a field's name, at most 31 bytes.
func appendKey(dst []byte, key string) []byte {
	return append(append(dst, 0xa0|byte(len(key))), key...)
}

func appendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 0xc3)
	}
	return append(dst, 0xc2)
}
