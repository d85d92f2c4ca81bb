package legacy

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// Bounds on a state. A weave peer can send its state only in a single frame of at most 10 MiB, so a larger one could
// never be passed on; and without a bound anybody in the overlay could fill every node's memory. Records beyond a
// bound are left out and counted.
const (
	MaxRecordBytes = 64 << 10 // one entry, encoded
	MaxStateBytes  = 8 << 20  // all entries, encoded
)

// ErrOutbid is returned for a key with the greatest possible version, which cannot be overwritten in any overlay of
// this protocol. It goes away only when all peers have been stopped at the same time.
var ErrOutbid = errors.New("version cannot be exceeded")

// Record is one record of the state (KVStateRecord).
type Record struct {
	Value     string // addresses are joined with commas
	Tombstone bool   // deleted: readers do not see it
	Version   uint64 // by convention Unix seconds
}

// Entry is a record with its key.
type Entry struct {
	Key string
	Record
}

// Merged is the result of a merge.
type Merged struct {
	Changed []string // keys with a new record, in the order of the message
	Ties    []Tie    // at most maxTies; see Tie
	Refused int      // records left out because of the bounds above
}

// Tie is an incoming record with the same version as the one held but other content. By the wire rule each side keeps
// its own, so the two never converge until the key is written again.
type Tie struct {
	Held, Other Entry
}

const maxTies = 64

// State is an overlay's state. The zero value is empty and ready to use. It is
// not safe for concurrent use.
type State struct {
	records map[string]Record
	size    int // bytes of all entries, encoded
}

// Merge merges an encoded state by the overlays' rule: a record is taken if its key is unknown or its version greater
// than the one held. If message does not decode, nothing is taken. Nothing is allocated for records that are not
// taken.
func (s *State) Merge(message []byte) (Merged, error) {
	var m Merged
	if err := scan(message, func(rawEntry) {}); err != nil {
		return m, fmt.Errorf("merge gossip state: %w", err)
	}
	err := scan(message, func(e rawEntry) {
		held, known := s.records[string(e.key)]
		if known && e.version <= held.Version {
			if len(m.Ties) < maxTies && e.version == held.Version && (string(e.data) != held.Value || e.tombstone != held.Tombstone) {
				m.Ties = append(m.Ties, Tie{Held: Entry{string(e.key), held}, Other: e.entry()})
			}
			return
		}
		if !s.set(e.entry()) {
			m.Refused++
			return
		}
		m.Changed = append(m.Changed, string(e.key))
	})
	return m, err
}

// Put sets the record at key to value, with a version that exceeds the one held: max(now, held+1). It reports whether
// anything changed; an equal value changes nothing. It fails if the record is too large, or with ErrOutbid.
func (s *State) Put(key, value string, now time.Time) (bool, error) {
	return s.write(key, Record{Value: value}, now)
}

// Delete writes a tombstone at key, even if the key is unknown: it may be known elsewhere.
func (s *State) Delete(key string, now time.Time) (bool, error) {
	return s.write(key, Record{Tombstone: true}, now)
}

func (s *State) write(key string, r Record, now time.Time) (bool, error) {
	if !utf8.ValidString(key) {
		return false, fmt.Errorf("write %q: %w", key, errKeyText)
	}
	held, known := s.records[key]
	if known && held.Value == r.Value && held.Tombstone == r.Tombstone {
		return false, nil
	}
	r.Version = uint64(max(now.Unix(), 0))
	if known {
		if held.Version == math.MaxUint64 {
			return false, fmt.Errorf("write %q: %w", key, ErrOutbid)
		}
		r.Version = max(r.Version, held.Version+1)
	}
	if !s.set(Entry{key, r}) {
		return false, fmt.Errorf("write %q: record or state over its bound of %d or %d bytes", key, MaxRecordBytes, MaxStateBytes)
	}
	return true, nil
}

func (s *State) set(e Entry) bool {
	n := e.encodedSize()
	var old int
	if held, ok := s.records[e.Key]; ok {
		old = Entry{e.Key, held}.encodedSize()
	}
	// A record that shrinks always fits, because deletions must never be refused.
	if n > old && (n > MaxRecordBytes || s.size+n-old > MaxStateBytes) {
		return false
	}
	if s.records == nil {
		s.records = make(map[string]Record)
	}
	s.records[e.Key] = e.Record
	s.size += n - old
	return true
}

// Get returns the record at key, which may be a tombstone.
func (s *State) Get(key string) (Record, bool) {
	r, ok := s.records[key]
	return r, ok
}

// Len returns the number of records, tombstones included.
func (s *State) Len() int { return len(s.records) }

// Size returns the length of the encoded state in bytes.
func (s *State) Size() int { return s.size }

// Entries returns all records, tombstones included, ordered by key.
func (s *State) Entries() []Entry {
	entries := make([]Entry, 0, len(s.records))
	for _, k := range slices.Sorted(maps.Keys(s.records)) {
		entries = append(entries, Entry{k, s.records[k]})
	}
	return entries
}

// Append appends the whole encoded state to dst. Equal states give equal bytes.
func (s *State) Append(dst []byte) []byte {
	return Append(slices.Grow(dst, s.size), s.Entries()...)
}

// AppendKeys appends the encoded records at keys to dst, leaving out unknown
// keys.
func (s *State) AppendKeys(dst []byte, keys []string) []byte {
	for _, k := range keys {
		if r, ok := s.records[k]; ok {
			dst = Append(dst, Entry{k, r})
		}
	}
	return dst
}
