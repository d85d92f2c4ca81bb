package wire

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/muster-dev/muster/internal/overlay/legacy/protobuf"
)

// Field numbers of Part and FullState.
const (
	fieldKey  = 1
	fieldData = 2

	fieldParts = 1
)

var errKeyText = errors.New("key is not valid UTF-8")

// Part is the data of one user of the overlay. A message after a change is one Part.
type Part struct {
	Key  string // the user; kOps has one, "dns"
	Data []byte
}

// ParsePart reads an encoded Part. Its Data aliases message.
func ParsePart(message []byte) (Part, error) {
	p, err := scanPart(message)
	if err != nil {
		return Part{}, fmt.Errorf("decode part of a state: %w", err)
	}
	return p, nil
}

func scanPart(message []byte) (p Part, err error) {
	var key []byte
	err = protobuf.Scan(message, func(f protobuf.Field) error {
		switch {
		case f.Num == fieldKey && f.Type == protobuf.Bytes:
			if !utf8.Valid(f.Data) {
				return errKeyText
			}
			key = f.Data
		case f.Num == fieldData && f.Type == protobuf.Bytes:
			p.Data = f.Data
		}
		return nil
	})
	p.Key = string(key)
	return p, err
}

// AppendPart appends the encoding of p to dst.
func AppendPart(dst []byte, p Part) []byte {
	if p.Key != "" {
		dst = protobuf.AppendBytes(dst, fieldKey, p.Key)
	}
	if len(p.Data) > 0 {
		dst = protobuf.AppendBytes(dst, fieldData, p.Data)
	}
	return dst
}

func (p Part) encodedSize() (n int) {
	if p.Key != "" {
		n += protobuf.SizeBytes(fieldKey, len(p.Key))
	}
	if len(p.Data) > 0 {
		n += protobuf.SizeBytes(fieldData, len(p.Data))
	}
	return n
}

// ScanFullState calls visit for each Part of an encoded full state, in order,
// and stops at the first error. Data aliases message.
func ScanFullState(message []byte, visit func(Part) error) error {
	err := protobuf.Scan(message, func(f protobuf.Field) error {
		if f.Num != fieldParts || f.Type != protobuf.Bytes {
			return nil
		}
		p, err := scanPart(f.Data)
		if err != nil {
			return err
		}
		return visit(p)
	})
	if err != nil {
		return fmt.Errorf("decode full state: %w", err)
	}
	return nil
}

// AppendFullState appends the encoding of a full state to dst.
func AppendFullState(dst []byte, parts ...Part) []byte {
	for _, p := range parts {
		dst = protobuf.AppendHeader(dst, fieldParts, p.encodedSize())
		dst = AppendPart(dst, p)
	}
	return dst
}
