package legacy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultMaxAhead is how far a version may lie ahead of the reader's clock when
// Judge.MaxAhead is zero. Machines that keep time are off by far less; writers
// that count on from a held version, as ours do, get ahead by a second a write.
const DefaultMaxAhead = 5 * time.Minute

// maxAddrs bounds the addresses taken from one record: nobody needs more, and
// they all end up in a file that every program on the node reads.
const maxAddrs = 64

// Judge decides what of a legacy state is believed. The overlays prove nothing
// about a writer, so belief rests on what can be checked from outside: the
// name, the address, the version. Its zero value believes no record.
type Judge struct {
	// Names are the fully qualified names that may be believed, in any case,
	// with or without trailing dot. Every other name is refused. In a state
	// names stand in lower case without the dot; other spellings are refused
	// too, or two keys would compete for one name.
	Names []string
	// Networks are where addresses may lie. Addresses elsewhere are refused.
	Networks []netip.Prefix
	// MaxAhead bounds how far a version may lie in the future; zero means
	// DefaultMaxAhead. A record beyond it is refused until its time has come.
	MaxAhead time.Duration
}

// Validate reports what would make j believe nothing at all.
func (j Judge) Validate() error {
	var errs []error
	if len(j.Names) == 0 {
		errs = append(errs, errors.New("no names: every record would be refused"))
	}
	if len(j.Networks) == 0 {
		errs = append(errs, errors.New("no networks: every address would be refused"))
	}
	for _, p := range j.Networks {
		if !p.IsValid() {
			errs = append(errs, errors.New("invalid network"))
		}
	}
	if j.MaxAhead < 0 {
		errs = append(errs, fmt.Errorf("bound of %v into the future is negative", j.MaxAhead))
	}
	return errors.Join(errs...)
}

// Good is what is believed of one key.
type Good struct {
	Addrs   []netip.Addr // at least one, sorted
	Version uint64
}

// Belief is what is believed of each key. It outlives the records: what has
// been withdrawn or overwritten with nonsense stays believed until something
// better arrives.
type Belief map[Key]Good

// Hosts returns the believed addresses by name, both families together, sorted.
func (b Belief) Hosts() map[string][]netip.Addr {
	hosts := make(map[string][]netip.Addr)
	for k, g := range b {
		hosts[k.Name] = append(hosts[k.Name], g.Addrs...)
	}
	for name := range hosts {
		slices.SortFunc(hosts[name], netip.Addr.Compare)
		hosts[name] = slices.Compact(hosts[name])
	}
	return hosts
}

// Verdict is the judgement on one record.
type Verdict struct {
	Key      string       // as it stands in the state
	Name     string       // empty if the key does not parse
	Type     string       // empty if the key does not parse
	Addrs    []netip.Addr // the addresses of the record that may be believed
	Version  uint64
	Accepted bool
	Why      string // why refused, or what was left out of an accepted record
	Kept     bool   // refused, and an earlier good value stays in its place
}

// Decide judges every record of a state against what was believed before, and
// returns the verdicts in the order of entries with what is believed now.
// Neither argument is changed. Belief in names that are no longer asked for
// ends; belief in a key that the state no longer has does not.
func (j Judge) Decide(before Belief, entries []Entry, now time.Time) ([]Verdict, Belief) {
	wanted := make(map[string]bool, len(j.Names))
	for _, n := range j.Names {
		wanted[normalName(n)] = true
	}
	after := maps.Clone(before)
	if after == nil {
		after = make(Belief)
	}
	maps.DeleteFunc(after, func(k Key, _ Good) bool { return !wanted[k.Name] })
	verdicts := make([]Verdict, 0, len(entries))
	for _, e := range entries {
		v := j.judge(wanted, e, now)
		k := Key{Zone: Zone, Type: v.Type, Name: v.Name}
		switch {
		case v.Accepted && len(v.Addrs) > 0:
			after[k] = Good{Addrs: v.Addrs, Version: e.Version}
		case !v.Accepted:
			_, v.Kept = after[k]
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, after
}

func (j Judge) judge(wanted map[string]bool, e Entry, now time.Time) Verdict {
	v := Verdict{Key: e.Key, Version: e.Version}
	k, err := ParseKey(e.Key)
	if err != nil {
		v.Why = err.Error()
		return v
	}
	v.Name, v.Type = k.Name, k.Type
	ahead := j.MaxAhead
	if ahead == 0 {
		ahead = DefaultMaxAhead
	}
	var dropped []string
	switch {
	case e.Key == MarkerKey && e.Value == MarkerValue && !e.Tombstone:
		v.Accepted = true
		v.Why = "zone marker"
	case k.Zone != Zone:
		v.Why = fmt.Sprintf("zone %q: only %q is used", k.Zone, Zone)
	case k.Type != TypeA && k.Type != TypeAAAA:
		v.Why = fmt.Sprintf("type %q holds no addresses", k.Type)
	case !wanted[v.Name]:
		v.Why = "name does not belong to the cluster"
	case e.Version > uint64(max(now.Add(ahead).Unix(), 0)):
		v.Why = futureText(e.Version, now, ahead)
	case e.Tombstone:
		v.Why = "withdrawn"
	case e.Value == "":
		v.Why = "empty"
	default:
		v.Addrs, dropped = j.addresses(k.Type, e.Value)
		v.Accepted = len(v.Addrs) > 0
		v.Why = strings.Join(dropped, "; ")
	}
	return v
}

func futureText(version uint64, now time.Time, bound time.Duration) string {
	// Beyond a century the number is no clock reading but a way to win.
	if version > uint64(now.Unix())+100*365*24*3600 {
		return fmt.Sprintf("version %d is no time; nobody could ever overwrite it", version)
	}
	by := time.Unix(int64(version), 0).Sub(now).Truncate(time.Second)
	return fmt.Sprintf("version lies %v in the future; at most %v", by, bound)
}

// addresses returns what of value may be believed and why the rest may not. A
// record with one bad address still serves with the others: dropping it whole
// would let one stray annotation take the API server off the hosts file.
func (j Judge) addresses(recordType, value string) (good []netip.Addr, dropped []string) {
	// More than this and the record is not a list of servers.
	const maxText = maxAddrs * 46
	if len(value) > maxText {
		return nil, []string{fmt.Sprintf("value of %d bytes; at most %d", len(value), maxText)}
	}
	for text := range strings.SplitSeq(value, ",") {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || a.Zone() != "":
			dropped = append(dropped, fmt.Sprintf("%q is not an address", text))
		case a.Is4In6() || a.Is4() != (recordType == TypeA):
			dropped = append(dropped, fmt.Sprintf("%s does not fit type %s", a, recordType))
		case a.IsUnspecified() || a.IsMulticast() || !j.inside(a):
			dropped = append(dropped, fmt.Sprintf("%s lies outside the cluster's networks", a))
		case len(good) == maxAddrs:
			return good, append(dropped, fmt.Sprintf("more than %d addresses", maxAddrs))
		default:
			good = append(good, a)
		}
	}
	slices.SortFunc(good, netip.Addr.Compare)
	return slices.Compact(good), dropped
}

func (j Judge) inside(a netip.Addr) bool {
	return slices.ContainsFunc(j.Networks, func(p netip.Prefix) bool { return p.Contains(a) })
}
