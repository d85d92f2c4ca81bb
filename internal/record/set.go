package record

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Key identifies the records that replace each other: those of one publisher for one name.
type Key struct {
	Name      string
	Publisher string
}

// Key returns r's key in a Set.
func (r Record) Key() Key { return Key{r.Name, r.Publisher} }

// Set is an overlay's state: for each key the greatest record by [Signed.Compare]. The zero value is empty and ready
// to use. Not safe for concurrent use.
type Set struct {
	records map[Key]Signed
}

// Add adds s if it is newer than what the set has, and reports whether it was. It does not verify s; the caller has
// done that.
func (t *Set) Add(s Signed) bool {
	if old, ok := t.records[s.Key()]; ok && old.Compare(s) >= 0 {
		return false
	}
	if t.records == nil {
		t.records = make(map[Key]Signed)
	}
	t.records[s.Key()] = s
	return true
}

// Merge adds all records of o. Merging is commutative, associative and idempotent in the sense of [Set.Equal].
func (t *Set) Merge(o Set) {
	for _, s := range o.records {
		t.Add(s)
	}
}

// Equal reports whether both sets hold the same records.
func (t Set) Equal(o Set) bool {
	if len(t.records) != len(o.records) {
		return false
	}
	for k, s := range t.records {
		other, ok := o.records[k]
		if !ok || s.Compare(other) != 0 {
			return false
		}
	}
	return true
}

// Expire drops the records that have expired at time now, and reports whether one of them had addresses. Withdrawals
// are kept until they expire as well: without them, an older record still on its way would bring the addresses back.
func (t *Set) Expire(now time.Time) (lost bool) {
	for k, s := range t.records {
		if now.Before(s.Expires) {
			continue
		}
		lost = lost || !s.Withdrawn()
		delete(t.records, k)
	}
	return lost
}

// Get returns the record with key k.
func (t Set) Get(k Key) (Signed, bool) {
	s, ok := t.records[k]
	return s, ok
}

// Len returns the number of records, including withdrawals.
func (t Set) Len() int { return len(t.records) }

// All returns the records ordered by name and publisher.
func (t Set) All() []Signed {
	all := make([]Signed, 0, len(t.records))
	for _, s := range t.records {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Signed) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Publisher, b.Publisher))
	})
	return all
}

// Resolve returns the addresses of the live records of name at time now, sorted, without duplicates. The result may
// be empty; package endpoint never lets that take effect.
func (t Set) Resolve(name string, now time.Time) []netip.AddrPort {
	var addrs []netip.AddrPort
	for k, s := range t.records {
		if k.Name == name && s.Live(now) {
			addrs = append(addrs, s.Addrs...)
		}
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return slices.Compact(addrs)
}
