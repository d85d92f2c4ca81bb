package legacy

import (
	"maps"
	"slices"
)

// Difference is a key with different values in two overlays' states.
type Difference struct {
	Key                string
	Primary, Secondary *Record // nil if the state has no such key
}

// Compare returns the keys, in order, for which readers of the two states see different values. Versions are not
// compared: the same value written in different seconds is the same answer. A tombstone equals a missing key.
func Compare(primary, secondary []Entry) []Difference {
	index := func(entries []Entry) map[string]Record {
		m := make(map[string]Record, len(entries))
		for _, e := range entries {
			m[e.Key] = e.Record
		}
		return m
	}
	first, second := index(primary), index(secondary)
	all := maps.Clone(first)
	maps.Copy(all, second)
	var diffs []Difference
	for _, k := range slices.Sorted(maps.Keys(all)) {
		a, inFirst := first[k]
		b, inSecond := second[k]
		liveA, liveB := inFirst && !a.Tombstone, inSecond && !b.Tombstone
		if liveA == liveB && (!liveA || a.Value == b.Value) {
			continue
		}
		d := Difference{Key: k}
		if inFirst {
			d.Primary = &a
		}
		if inSecond {
			d.Secondary = &b
		}
		diffs = append(diffs, d)
	}
	return diffs
}
