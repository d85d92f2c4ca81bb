package legacy

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/muster-dev/muster/internal/overlay/legacy/protobuf"
)

// Field numbers. KVState is map<string, KVStateRecord> in field 1, which on the
// wire is a repeated message of key and value.
const (
	fieldRecords = 1

	fieldEntryKey   = 1
	fieldEntryValue = 2

	fieldData      = 1
	fieldTombstone = 2
	fieldVersion   = 3
)

var errKeyText = errors.New("key is not valid UTF-8")

// rawEntry is an undecoded entry: key and data alias the message.
type rawEntry struct {
	key, data []byte
	tombstone bool
	version   uint64
}

func (e rawEntry) entry() Entry {
	return Entry{Key: string(e.key), Record: Record{Value: string(e.data), Tombstone: e.tombstone, Version: e.version}}
}

// scan calls visit for each entry of an encoded state. It allocates nothing that grows with the message. A repeated
// entry is visited each time; when merging, the greater version wins, where a protobuf map would keep the last. No
// legacy writer repeats a key.
func scan(message []byte, visit func(rawEntry)) error {
	return protobuf.Scan(message, func(f protobuf.Field) error {
		if f.Num != fieldRecords || f.Type != protobuf.Bytes {
			return nil
		}
		e, err := scanEntry(f.Data)
		if err != nil {
			return err
		}
		visit(e)
		return nil
	})
}

func scanEntry(message []byte) (e rawEntry, err error) {
	err = protobuf.Scan(message, func(f protobuf.Field) error {
		switch {
		case f.Num == fieldEntryKey && f.Type == protobuf.Bytes:
			// proto3 requires UTF-8. A legacy peer drops the connection on which another key arrives, so it must
			// never be passed on.
			if !utf8.Valid(f.Data) {
				return errKeyText
			}
			e.key = f.Data
		case f.Num == fieldEntryValue && f.Type == protobuf.Bytes:
			return scanRecord(f.Data, &e)
		}
		return nil
	})
	return e, err
}

func scanRecord(message []byte, e *rawEntry) error {
	return protobuf.Scan(message, func(f protobuf.Field) error {
		switch {
		case f.Num == fieldData && f.Type == protobuf.Bytes:
			e.data = f.Data
		case f.Num == fieldTombstone && f.Type == protobuf.Varint:
			e.tombstone = f.Value != 0
		case f.Num == fieldVersion && f.Type == protobuf.Varint:
			e.version = f.Value
		}
		return nil
	})
}

// Decode decodes a state (KVState). No bytes are an empty state. The entries are in the order of the message.
func Decode(message []byte) ([]Entry, error) {
	var entries []Entry
	if err := scan(message, func(e rawEntry) { entries = append(entries, e.entry()) }); err != nil {
		return nil, fmt.Errorf("decode gossip state: %w", err)
	}
	return entries, nil
}

// Append appends the encoding of entries (KVState) to dst.
func Append(dst []byte, entries ...Entry) []byte {
	for _, e := range entries {
		rec := e.Record.encodedSize()
		size := protobuf.SizeBytes(fieldEntryKey, len(e.Key)) + protobuf.SizeBytes(fieldEntryValue, rec)
		dst = protobuf.AppendHeader(dst, fieldRecords, size)
		dst = protobuf.AppendBytes(dst, fieldEntryKey, e.Key)
		dst = protobuf.AppendHeader(dst, fieldEntryValue, rec)
		dst = e.Record.append(dst)
	}
	return dst
}

func (e Entry) encodedSize() int {
	inner := protobuf.SizeBytes(fieldEntryKey, len(e.Key)) + protobuf.SizeBytes(fieldEntryValue, e.Record.encodedSize())
	return protobuf.SizeBytes(fieldRecords, inner)
}

func (r Record) encodedSize() (n int) {
	if r.Value != "" {
		n += protobuf.SizeBytes(fieldData, len(r.Value))
	}
	if r.Tombstone {
		n += protobuf.SizeVarint(fieldTombstone, 1)
	}
	if r.Version != 0 {
		n += protobuf.SizeVarint(fieldVersion, r.Version)
	}
	return n
}

func (r Record) append(dst []byte) []byte {
	if r.Value != "" {
		dst = protobuf.AppendBytes(dst, fieldData, r.Value)
	}
	if r.Tombstone {
		dst = protobuf.AppendVarint(dst, fieldTombstone, 1)
	}
	if r.Version != 0 {
		dst = protobuf.AppendVarint(dst, fieldVersion, r.Version)
	}
	return dst
}
