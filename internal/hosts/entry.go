package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Entry says that every one of Names is served at Addr.
type Entry struct {
	// Addr is an IPv4 or IPv6 address without a zone. An IPv4-mapped IPv6 address counts as its IPv4 form.
	Addr netip.Addr
	// Names are host names in the order written. The first is the canonical name, the answer to a reverse look-up of
	// Addr.
	Names []string
}

func (e Entry) validate() error {
	var faults []error
	switch {
	case !e.Addr.IsValid():
		faults = append(faults, errors.New("address is missing"))
	case e.Addr.Zone() != "":
		faults = append(faults, fmt.Errorf("address %q has a zone, which a hosts file cannot express", e.Addr))
	case e.Addr.IsUnspecified(), e.Addr.IsMulticast():
		faults = append(faults, fmt.Errorf("address %q is not the address of one host", e.Addr))
	}
	if len(e.Names) == 0 {
		faults = append(faults, errors.New("no host name"))
	}
	for _, name := range e.Names {
		if err := validateName(name); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// validateName accepts names that can be looked up: labels of letters, digits, hyphens and underscores. Anything else
// is refused rather than quoted, because the file is root's and every program reads it: a line break or a "#" in a
// name would add lines to it.
func validateName(name string) error {
	if name == "" || len(name) > 253 {
		return fmt.Errorf("host name %.260q has %d characters; it must have 1 to 253", name, len(name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("host name %q is an address", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("host name %q has a part of %d characters; each must have 1 to 63", name, len(label))
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("host name %q has a part that begins or ends with a hyphen", name)
		}
		for _, c := range []byte(label) {
			if !isNameByte(c) {
				return fmt.Errorf("host name %q has the character %q; letters, digits, '-', '_' and '.' are allowed", name, c)
			}
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// blockLines returns the lines that stand between the guards, without line ends, or all faults of the entries
// joined.
func blockLines(entries []Entry) ([]string, error) {
	if len(entries) == 0 {
		return nil, ErrEmpty
	}
	var faults []error
	for i, e := range entries {
		if err := e.validate(); err != nil {
			faults = append(faults, fmt.Errorf("host entry %d: %w", i+1, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	merged := merge(entries)
	lines := make([]string, len(merged))
	for i, e := range merged {
		lines[i] = e.Addr.String() + "\t" + strings.Join(e.Names, " ")
	}
	return lines, nil
}

// merge puts the names of one address on one line. A name joins an earlier line of its address only if the name is on
// no later line: otherwise joining would change the order in which its addresses are tried, so the address gets a
// second line. Repeated pairs are dropped; the first, preferred place counts.
func merge(entries []Entry) []Entry {
	type pair struct {
		addr netip.Addr
		name string
	}
	var out []Entry
	seen := map[pair]bool{}
	lineOf := map[netip.Addr]int{} // the last line of an address
	lastOf := map[string]int{}     // the last line that has a name
	for _, e := range entries {
		addr := e.Addr.Unmap()
		for _, name := range e.Names {
			key := fold(name)
			if seen[pair{addr, key}] {
				continue
			}
			seen[pair{addr, key}] = true
			line, ok := lineOf[addr]
			if last, placed := lastOf[key]; !ok || placed && last > line {
				line = len(out)
				lineOf[addr] = line
				out = append(out, Entry{Addr: addr})
			}
			lastOf[key] = line
			out[line].Names = append(out[line].Names, name)
		}
	}
	return slices.Clip(out)
}
