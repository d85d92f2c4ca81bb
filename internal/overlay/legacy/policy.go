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

// DefaultMaxAhead is how far a version may be ahead of the reader's clock if Policy.MaxAhead is zero. Synchronised
// machines are off by far less, but writers that increment an existing version, as ours do, get ahead by a second
// with each write.
const DefaultMaxAhead = 5 * time.Minute

// maxAddrs bounds the addresses accepted from one record: nobody needs more, and they all end up in a file that every
// program on the node reads.
const maxAddrs = 64

// Policy decides which records of a legacy state are accepted. The overlays prove nothing about a writer, so it
// checks what can be checked from outside: the name, the addresses, the version. The zero value accepts no record.
type Policy struct {
	// Names are the fully qualified names that are accepted, in any case, with or without trailing dot; all others
	// are refused. In a state, names must be in lower case without the dot: otherwise two keys would compete for one
	// name.
	Names []string
	// Networks must contain an address for it to be accepted.
	Networks []netip.Prefix
	// MaxAhead bounds how far a version may be in the future; zero means DefaultMaxAhead. A record beyond it is
	// refused until its time has come.
	MaxAhead time.Duration
}

// Validate returns an error if p accepts nothing at all.
func (p Policy) Validate() error {
	var errs []error
	if len(p.Names) == 0 {
		errs = append(errs, errors.New("no names: every record would be refused"))
	}
	if len(p.Networks) == 0 {
		errs = append(errs, errors.New("no networks: every address would be refused"))
	}
	for _, n := range p.Networks {
		if !n.IsValid() {
			errs = append(errs, errors.New("invalid network"))
		}
	}
	if p.MaxAhead < 0 {
		errs = append(errs, fmt.Errorf("bound of %v into the future is negative", p.MaxAhead))
	}
	return errors.Join(errs...)
}

// Good is the accepted addresses of one key.
type Good struct {
	Addrs   []netip.Addr // at least one, sorted
	Version uint64
}

// LastGood has the last accepted addresses of each key. They outlive the records: after a withdrawal or an invalid
// value they stay until something acceptable arrives.
type LastGood map[Key]Good

// Hosts returns the addresses by name, both families together, sorted.
func (b LastGood) Hosts() map[string][]netip.Addr {
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

// Verdict is the decision about one record.
type Verdict struct {
	Key      string       // as in the state
	Name     string       // empty if the key does not parse
	Type     string       // empty if the key does not parse
	Addrs    []netip.Addr // the accepted addresses of the record
	Version  uint64
	Accepted bool
	Why      string // why it was refused, or what was left out of an accepted record
	Kept     bool   // refused, and an earlier good value stays
}

// Evaluate decides about every record of a state. It returns the verdicts in the order of entries, and previous
// updated with the accepted addresses. Names that are not in Policy.Names are dropped; keys that are no longer in the
// state are kept. The arguments are not changed.
func (p Policy) Evaluate(previous LastGood, entries []Entry, now time.Time) ([]Verdict, LastGood) {
	allowed := make(map[string]bool, len(p.Names))
	for _, n := range p.Names {
		allowed[normalName(n)] = true
	}
	current := maps.Clone(previous)
	if current == nil {
		current = make(LastGood)
	}
	maps.DeleteFunc(current, func(k Key, _ Good) bool { return !allowed[k.Name] })
	verdicts := make([]Verdict, 0, len(entries))
	for _, e := range entries {
		v := p.evaluate(allowed, e, now)
		k := Key{Zone: Zone, Type: v.Type, Name: v.Name}
		switch {
		case v.Accepted && len(v.Addrs) > 0:
			current[k] = Good{Addrs: v.Addrs, Version: e.Version}
		case !v.Accepted:
			_, v.Kept = current[k]
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, current
}

func (p Policy) evaluate(allowed map[string]bool, e Entry, now time.Time) Verdict {
	v := Verdict{Key: e.Key, Version: e.Version}
	k, err := ParseKey(e.Key)
	if err != nil {
		v.Why = err.Error()
		return v
	}
	v.Name, v.Type = k.Name, k.Type
	ahead := p.MaxAhead
	if ahead == 0 {
		ahead = DefaultMaxAhead
	}
	var rejected []string
	switch {
	case e.Key == MarkerKey && e.Value == MarkerValue && !e.Tombstone:
		v.Accepted = true
		v.Why = "zone marker"
	case k.Zone != Zone:
		v.Why = fmt.Sprintf("zone %q: only %q is used", k.Zone, Zone)
	case k.Type != TypeA && k.Type != TypeAAAA:
		v.Why = fmt.Sprintf("type %q holds no addresses", k.Type)
	case !allowed[v.Name]:
		v.Why = "name does not belong to the cluster"
	case e.Version > uint64(max(now.Add(ahead).Unix(), 0)):
		v.Why = futureText(e.Version, now, ahead)
	case e.Tombstone:
		v.Why = "withdrawn"
	case e.Value == "":
		v.Why = "empty"
	default:
		v.Addrs, rejected = p.addresses(k.Type, e.Value)
		v.Accepted = len(v.Addrs) > 0
		v.Why = strings.Join(rejected, "; ")
	}
	return v
}

func futureText(version uint64, now time.Time, bound time.Duration) string {
	// Beyond a century it is no clock reading, but meant to win for ever.
	if version > uint64(now.Unix())+100*365*24*3600 {
		return fmt.Sprintf("version %d is no time; nobody could ever overwrite it", version)
	}
	by := time.Unix(int64(version), 0).Sub(now).Truncate(time.Second)
	return fmt.Sprintf("version lies %v in the future; at most %v", by, bound)
}

// addresses returns the accepted addresses in value and why the others are rejected. A record with one bad address
// still serves with the others: otherwise one stray annotation could remove the API server from the hosts file.
func (p Policy) addresses(recordType, value string) (good []netip.Addr, rejected []string) {
	// A longer value is not a list of servers.
	const maxText = maxAddrs * 46
	if len(value) > maxText {
		return nil, []string{fmt.Sprintf("value of %d bytes; at most %d", len(value), maxText)}
	}
	for text := range strings.SplitSeq(value, ",") {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || a.Zone() != "":
			rejected = append(rejected, fmt.Sprintf("%q is not an address", text))
		case a.Is4In6() || a.Is4() != (recordType == TypeA):
			rejected = append(rejected, fmt.Sprintf("%s does not fit type %s", a, recordType))
		case a.IsUnspecified() || a.IsMulticast() || !p.inside(a):
			rejected = append(rejected, fmt.Sprintf("%s lies outside the cluster's networks", a))
		case len(good) == maxAddrs:
			return good, append(rejected, fmt.Sprintf("more than %d addresses", maxAddrs))
		default:
			good = append(good, a)
		}
	}
	slices.SortFunc(good, netip.Addr.Compare)
	return slices.Compact(good), rejected
}

func (p Policy) inside(a netip.Addr) bool {
	return slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}
