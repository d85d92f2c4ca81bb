// Package protobuf reads and writes the few protobuf (proto3) constructs that
// kOps's gossip payloads use: varints and length-delimited fields.
//
// It is not a protobuf library: no descriptors, no reflection, no groups. A generated decoder would allocate a
// message before it is known whether it is wanted; [Scan] walks the bytes in place and allocates nothing, so that a
// hostile payload costs no more than its own length.
package protobuf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Wire types of the protobuf encoding.
const (
	Varint  = 0
	Fixed64 = 1
	Bytes   = 2
	Fixed32 = 5
)

var (
	errTruncated = errors.New("truncated")
	errVarint    = errors.New("varint longer than 64 bits")
)

// Field is one field on the wire.
type Field struct {
	Num   int32  // field number, at least 1
	Type  uint8  // Varint, Fixed64, Bytes or Fixed32
	Value uint64 // the value when Type is Varint
	Data  []byte // the content when Type is Bytes; it aliases the scanned message
}

// Scan calls visit for each field of message in order and stops at the first error. visit must ignore fields that it
// does not know, as proto3 requires. Groups, which proto3 does not have, are an error.
func Scan(message []byte, visit func(Field) error) error {
	for len(message) > 0 {
		f, rest, err := next(message)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		message = rest
	}
	return nil
}

func next(b []byte) (Field, []byte, error) {
	tag, b, err := uvarint(b)
	if err != nil {
		return Field{}, nil, fmt.Errorf("field tag: %w", err)
	}
	num := tag >> 3
	if num == 0 || num > 1<<29-1 {
		return Field{}, nil, fmt.Errorf("field number %d out of range", num)
	}
	f := Field{Num: int32(num), Type: uint8(tag & 7)}
	switch f.Type {
	case Varint:
		f.Value, b, err = uvarint(b)
	case Fixed64:
		b, err = skip(b, 8)
	case Fixed32:
		b, err = skip(b, 4)
	case Bytes:
		var n uint64
		if n, b, err = uvarint(b); err == nil {
			if n > uint64(len(b)) {
				err = errTruncated
			} else {
				f.Data, b = b[:n:n], b[n:]
			}
		}
	default:
		err = fmt.Errorf("wire type %d", f.Type)
	}
	if err != nil {
		return Field{}, nil, fmt.Errorf("field %d: %w", f.Num, err)
	}
	return f, b, nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	switch {
	case n == 0:
		return 0, nil, errTruncated
	case n < 0:
		return 0, nil, errVarint
	}
	return v, b[n:], nil
}

func skip(b []byte, n int) ([]byte, error) {
	if len(b) < n {
		return nil, errTruncated
	}
	return b[n:], nil
}

// AppendVarint appends field num with value v.
func AppendVarint(dst []byte, num int32, v uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(num)<<3|Varint)
	return binary.AppendUvarint(dst, v)
}

// AppendBytes appends field num with the given content.
func AppendBytes[T string | []byte](dst []byte, num int32, content T) []byte {
	dst = AppendHeader(dst, num, len(content))
	return append(dst, content...)
}

// AppendHeader appends the tag and length of field num, whose content of size bytes the caller appends next.
func AppendHeader(dst []byte, num int32, size int) []byte {
	dst = binary.AppendUvarint(dst, uint64(num)<<3|Bytes)
	return binary.AppendUvarint(dst, uint64(size))
}

// SizeVarint returns the encoded size of field num with value v, in bytes.
func SizeVarint(num int32, v uint64) int { return uvarintSize(uint64(num)<<3) + uvarintSize(v) }

// SizeBytes returns the encoded size of field num with size bytes of content.
func SizeBytes(num int32, size int) int {
	if size < 0 || size > math.MaxInt32 {
		panic("protobuf: impossible size")
	}
	return uvarintSize(uint64(num)<<3) + uvarintSize(uint64(size)) + size
}

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
