package hosts

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// Where a block begins and ends, and what happens to a broken one
//
// A guard is a line that equals GuardBegin or GuardEnd once white space around it is gone, which is how kOps
// recognises them. A begin guard whose next guard is an end guard encloses a block; everything in between is
// ours. Several blocks are all ours; one of them stays, where the first one stands.
//
// Any other guard is a stray: a begin that another begin or the end of the file follows, or an end without a
// begin. kOps takes everything after a begin without an end for its own and deletes it, the rest of the hosts
// file included. Here a stray costs no foreign line: the guard line itself goes, and with it the unbroken run
// of lines next to it (below a begin, above an end) that have our exact format and name only names that we
// write. Those are the rest of a block of ours. Left behind they would be resolved next to the new ones for
// ever, with addresses that nobody updates. The run stops at the first line that is not provably ours.

// span is a range of bytes, made of whole lines.
type span struct{ start, end int }

// layout is the division of a hosts file into our part and everybody else's.
type layout struct {
	// ours lists what we own, in file order and without overlap: blocks, and strays with their runs.
	ours []span
	// home is the index in ours where the block belongs, or -1 if nothing in the file is ours.
	home int
	// blocks is the number of well-formed blocks.
	blocks int
	// lines are the lines in ours that are not guards, without line ends.
	lines []string
	// faults says what is broken, one clause each.
	faults []string
}

type guardKind int

const (
	notGuard guardKind = iota
	beginGuard
	endGuard
)

func guardOf(line []byte) guardKind {
	switch string(bytes.TrimSpace(line)) {
	case GuardBegin:
		return beginGuard
	case GuardEnd:
		return endGuard
	}
	return notGuard
}

// splitLines returns the lines of content with their line ends. Only "\n" ends a line, as for the resolvers;
// the last line may lack it.
func splitLines(content []byte) [][]byte {
	lines := bytes.SplitAfter(content, []byte("\n"))
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// survey divides content. owned holds the names, in lower case, whose lines beside a stray guard are ours.
func survey(content []byte, owned map[string]bool) layout {
	lines := splitLines(content)
	starts := make([]int, len(lines)+1)
	var guards []int
	for i, line := range lines {
		starts[i+1] = starts[i] + len(line)
		if guardOf(line) != notGuard {
			guards = append(guards, i)
		}
	}

	lay := layout{home: -1}
	claim := func(from, to int) { // lines from..to, both included
		for _, line := range lines[from : to+1] {
			if guardOf(line) == notGuard {
				lay.lines = append(lay.lines, trimEnd(line))
			}
		}
		lay.ours = append(lay.ours, span{start: starts[from], end: starts[to+1]})
	}
	for g := 0; g < len(guards); g++ {
		at := guards[g]
		kind := guardOf(lines[at])
		if kind == beginGuard && g+1 < len(guards) && guardOf(lines[guards[g+1]]) == endGuard {
			claim(at, guards[g+1])
			lay.blocks++
			if lay.blocks == 1 {
				lay.home = len(lay.ours) - 1
			} else {
				lay.faults = append(lay.faults, fmt.Sprintf("line %d: another block; only the first one is kept", at+1))
			}
			g++
			continue
		}
		from, to := at, at
		if kind == beginGuard {
			for to+1 < len(lines) && isOurLine(lines[to+1], owned) {
				to++
			}
			lay.faults = append(lay.faults, fmt.Sprintf("line %d: begin guard without an end guard; it goes, with %d entries of ours below it", at+1, to-at))
		} else {
			for from > 0 && isOurLine(lines[from-1], owned) {
				from--
			}
			lay.faults = append(lay.faults, fmt.Sprintf("line %d: end guard without a begin guard; it goes, with %d entries of ours above it", at+1, at-from))
		}
		claim(from, to)
	}
	if lay.home < 0 && len(lay.ours) > 0 {
		lay.home = 0
	}
	return lay
}

// isOurLine reports whether line is byte for byte what we would have written, for names that we own. A guard
// never is, so a run cannot reach across one.
func isOurLine(line []byte, owned map[string]bool) bool {
	text := strings.TrimSuffix(string(line), "\n")
	addr, names, ok := strings.Cut(text, "\t")
	if !ok {
		return false
	}
	if ip, err := netip.ParseAddr(addr); err != nil || ip.String() != addr {
		return false
	}
	for name := range strings.SplitSeq(names, " ") {
		if !owned[fold(name)] {
			return false
		}
	}
	return true
}

// trimEnd returns line without its line end.
func trimEnd(line []byte) string {
	return string(bytes.TrimRight(line, "\r\n"))
}

// raw returns the bytes of the one well-formed block of content, guards included, or nil if there is none,
// or more than one, or anything else is wrong with it.
func (l layout) raw(content []byte) []byte {
	if l.blocks != 1 || len(l.faults) > 0 {
		return nil
	}
	s := l.ours[l.home]
	return content[s.start:s.end]
}

// rewrite returns content with everything of ours taken out and, unless lines is empty, one block with lines
// put in. The block goes where the first block was; if there was none, where the first stray guard was; if
// nothing was ours, to the end of the file.
//
// A last line without a line end is kept so, and the block goes above it: a line end added there would be a
// foreign byte changed, and an end guard without one would be spoiled by the next program that appends.
func (l layout) rewrite(content []byte, lines []string) []byte {
	var block []byte
	if len(lines) > 0 {
		block = []byte(GuardBegin + "\n" + strings.Join(lines, "\n") + "\n" + GuardEnd + "\n")
	}
	out := make([]byte, 0, len(content)+len(block))
	if l.home < 0 {
		at := bytes.LastIndexByte(content, '\n') + 1
		out = append(out, content[:at]...)
		out = append(out, block...)
		return append(out, content[at:]...)
	}
	kept := 0
	for i, s := range l.ours {
		out = append(out, content[kept:s.start]...)
		if i == l.home {
			out = append(out, block...)
		}
		kept = s.end
	}
	return append(out, content[kept:]...)
}
