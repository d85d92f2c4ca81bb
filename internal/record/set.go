package record

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Key is what merging decides by: each publisher speaks for itself alone.
type Key struct {
	Name      string
	Publisher string
}

// Key returns the slot that r competes for.
func (r Record) Key() Key { return Key{r.Name, r.Publisher} }

// Set is an overlay's state: for each key the greatest statement heard. The
// zero value is empty and ready to use. Not safe for concurrent use.
type Set struct {
	records map[Key]Signed
}

// Add takes s in if it is news and reports whether it was. The caller has
// verified s; Add does not.
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

// Merge takes in everything of o. Merging is commutative, associative and
// idempotent in the sense of [Set.Equal].
func (t *Set) Merge(o Set) {
	for _, s := range o.records {
		t.Add(s)
	}
}

// Equal reports whether both sets hold the same statements.
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

// Expire drops what expired before now and reports whether a live name lost an
// address by it. Withdrawals are kept until they expire too: dropped earlier,
// an older statement that is still on its way would bring the address back.
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

// Get returns the statement at k.
func (t Set) Get(k Key) (Signed, bool) {
	s, ok := t.records[k]
	return s, ok
}

// Len returns the number of statements held, withdrawals included.
func (t Set) Len() int { return len(t.records) }

// All returns the statements ordered by name and publisher.
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

// Resolve returns the addresses that live records give for name at time now,
// sorted, each once. It may be empty: whether an empty answer may take effect
// is package endpoint's decision, and the answer there is no.
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
