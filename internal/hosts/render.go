package hosts

import (
	"net/netip"
	"slices"
	"strings"
)

// Render returns content with its block replaced by one of the entries, in the order given, and in repaired what was
// wrong with the old block ("" if nothing). Everything outside the block is kept byte for byte. Rendering the result
// again with the same entries changes nothing. Names of one address share a line where that keeps the order of each
// name's addresses. An empty list is refused with ErrEmpty; the faults of all entries are joined. content is not
// modified.
func Render(content []byte, entries []Entry) (out []byte, repaired string, err error) {
	lines, err := blockLines(entries)
	if err != nil {
		return nil, "", err
	}
	lay := parseLayout(content, namesOf(entries))
	return lay.rewrite(content, lines), lay.fault(), nil
}

// Strip returns content without the block, and in repaired what was wrong with it. A stray guard is removed alone,
// because without entries nothing says which lines next to it are ours. content is not modified.
func Strip(content []byte) (out []byte, repaired string) {
	lay := parseLayout(content, nil)
	return lay.rewrite(content, nil), lay.fault()
}

// Block is the content of a hosts file between the guards.
type Block struct {
	// Present says that there is at least one well-formed block.
	Present bool
	// Lines are the lines between the guards of all blocks, in file order, without line ends.
	Lines []string
	// Entries are those of Lines that a resolver understands.
	Entries []Entry
	// Fault says what is broken ("" if nothing): more than one block, a guard without its partner.
	Fault string
}

// Parse reads the block of a hosts file.
func Parse(content []byte) Block {
	lay := parseLayout(content, nil)
	b := Block{Present: lay.blocks > 0, Lines: lay.lines, Fault: lay.fault()}
	for _, line := range lay.lines {
		if e, ok := parseLine(line); ok {
			b.Entries = append(b.Entries, e)
		}
	}
	return b
}

// Lookup resolves name as glibc's "files" source does: it returns the addresses of all lines with the name, in file
// order, inside the block and outside. Names are compared without regard to case; a trailing dot is not removed.
// Repeated addresses are returned once, IPv4-mapped ones as IPv4, and lines that glibc does not understand are
// skipped.
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

// fold lower-cases name for comparison, ASCII letters only, as strcasecmp does in the C locale: strings.ToLower would
// take the Kelvin sign for a k, and a foreign line for one of ours.
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

// isSpace is isspace in the C locale. unicode.IsSpace would split names at bytes that glibc keeps.
func isSpace(r rune) bool {
	return r == ' ' || '\t' <= r && r <= '\r'
}

func (l layout) fault() string {
	return strings.Join(l.faults, "; ")
}

// shadowing returns the lines outside the block that give a name of entries an address which entries do not.
// Resolvers use them as well, so a stale one costs a timeout for each connection.
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
			found = append(found, trimLineEnd(line))
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

// compare returns the edit that turned wrote into found.
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
