package hosts

import (
	"net/netip"
	"slices"
	"strings"
)

// Render returns content with the block replaced by one that has entries, in the order given, and in repaired
// what was broken about the block before ("" if nothing was). Everything outside the block is kept byte for
// byte. Rendering the result again with the same entries changes nothing.
//
// Names of one address share a line as far as that keeps the order of addresses of each name. An empty list is
// refused with ErrEmpty; faults of several entries come joined. content is not modified.
func Render(content []byte, entries []Entry) (out []byte, repaired string, err error) {
	lines, err := blockLines(entries)
	if err != nil {
		return nil, "", err
	}
	lay := survey(content, namesOf(entries))
	return lay.rewrite(content, lines), lay.fault(), nil
}

// Strip returns content without the block, and in repaired what was broken about it. A stray guard goes alone,
// because without entries nothing says which lines beside it are ours. content is not modified.
func Strip(content []byte) (out []byte, repaired string) {
	lay := survey(content, nil)
	return lay.rewrite(content, nil), lay.fault()
}

// Block is what a hosts file has between the guards.
type Block struct {
	// Present says that there is at least one well-formed block.
	Present bool
	// Lines are the lines between the guards of all blocks, in file order, without line ends.
	Lines []string
	// Entries are those of Lines that a resolver would use.
	Entries []Entry
	// Fault says what is broken ("" if nothing): more than one block, a guard without its partner.
	Fault string
}

// Parse reads the block of a hosts file.
func Parse(content []byte) Block {
	lay := survey(content, nil)
	b := Block{Present: lay.blocks > 0, Lines: lay.lines, Fault: lay.fault()}
	for _, line := range lay.lines {
		if e, ok := parseLine(line); ok {
			b.Entries = append(b.Entries, e)
		}
	}
	return b
}

// Lookup resolves name as the "files" source of glibc does: the addresses of all lines of the whole file that
// have the name, in file order, whatever block they are in. Names compare without regard to case, and as they
// are: a trailing dot is not removed. An address that several lines give is returned once, at its first place.
// An IPv4-mapped address is returned as IPv4, and a line that glibc does not understand is skipped.
func Lookup(content []byte, name string) []netip.Addr {
	var addrs []netip.Addr
	for _, line := range splitLines(content) {
		e, ok := parseLine(string(line))
		if ok && e.has(name) && !slices.Contains(addrs, e.Addr) {
			addrs = append(addrs, e.Addr)
		}
	}
	return addrs
}

func (e Entry) has(name string) bool {
	return slices.ContainsFunc(e.Names, func(n string) bool { return fold(n) == fold(name) })
}

// fold returns name in the form in which names are compared. As strcasecmp in the C locale it knows the letters
// of ASCII only: strings.ToLower would take the Kelvin sign for a k, and a foreign line for one of ours.
func fold(name string) string {
	folded := []byte(name)
	for i, c := range folded {
		if 'A' <= c && c <= 'Z' {
			folded[i] = c + 'a' - 'A'
		}
	}
	return string(folded)
}

// parseLine reads one line of a hosts file: an address, white space, names. A "#" begins a comment anywhere,
// and a NUL ends the line, because glibc handles it as a C string.
func parseLine(line string) (Entry, bool) {
	if i := strings.IndexAny(line, "#\x00\n"); i >= 0 {
		line = line[:i]
	}
	fields := strings.FieldsFunc(line, isSpace)
	if len(fields) < 2 {
		return Entry{}, false
	}
	addr, err := netip.ParseAddr(fields[0])
	if err != nil || addr.Zone() != "" {
		return Entry{}, false
	}
	return Entry{Addr: addr.Unmap(), Names: fields[1:]}, true
}

// isSpace is isspace of the C locale. unicode.IsSpace would split names at bytes that glibc leaves alone.
func isSpace(r rune) bool {
	return r == ' ' || '\t' <= r && r <= '\r'
}

func (l layout) fault() string {
	return strings.Join(l.faults, "; ")
}

// shadowing returns the lines outside our part that give one of the names of entries an address which entries
// do not give it. Resolvers mix them with ours, so a stale one costs a timeout for each connection.
func (l layout) shadowing(content []byte, entries []Entry) []string {
	var found []string
	for _, line := range splitLines(l.rewrite(content, nil)) {
		e, ok := parseLine(string(line))
		if !ok {
			continue
		}
		shadows := func(name string) bool {
			known, same := false, false
			for _, ours := range entries {
				if ours.has(name) {
					known = true
					same = same || ours.Addr.Unmap() == e.Addr
				}
			}
			return known && !same
		}
		if slices.ContainsFunc(e.Names, shadows) {
			found = append(found, trimEnd(line))
		}
	}
	return found
}

func namesOf(entries []Entry) map[string]bool {
	names := map[string]bool{}
	for _, e := range entries {
		for _, name := range e.Names {
			names[fold(name)] = true
		}
	}
	return names
}

// ForeignEdit says how the block found in the file differs from the one that was written last.
type ForeignEdit struct {
	// Added and Removed are lines without line ends, in the order of the block that has them.
	Added, Removed []string
	// Reordered says that the same lines stand in another order, which changes the address tried first.
	Reordered bool
}

// Any reports whether there was a foreign edit.
func (e ForeignEdit) Any() bool {
	return e.Reordered || len(e.Added) > 0 || len(e.Removed) > 0
}

// compare returns what turned the lines wrote into the lines found.
func compare(wrote, found []string) ForeignEdit {
	if slices.Equal(wrote, found) {
		return ForeignEdit{}
	}
	edit := ForeignEdit{Added: without(found, wrote), Removed: without(wrote, found)}
	edit.Reordered = len(edit.Added) == 0 && len(edit.Removed) == 0
	return edit
}

// without returns lines less one occurrence for each of those in minus.
func without(lines, minus []string) []string {
	count := map[string]int{}
	for _, line := range minus {
		count[line]++
	}
	var left []string
	for _, line := range lines {
		if count[line] > 0 {
			count[line]--
			continue
		}
		left = append(left, line)
	}
	return left
}
