package hosts

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// How blocks are found, and what happens to broken ones
//
// A guard is a line that equals GuardBegin or GuardEnd once white space around it is gone, which is how kOps
// recognises them. A begin guard whose next guard is an end guard encloses a block, and everything in between is
// ours. If there are several blocks, all are ours and one is kept, in the place of the first.
//
// Any other guard is a stray: a begin that another begin or the end of the file follows, or an end without a begin.
// kOps deletes everything after a begin without an end, to the end of the file. Here a stray costs no foreign line:
// we remove the guard line itself and the unbroken run of lines next to it (below a begin, above an end) that have
// our exact format and only names that we write. Those are the remains of a block of ours; left behind, they would be
// resolved beside the new ones for ever, with addresses that nobody updates. The run stops at the first line that is
// not provably ours.

// span is a range of bytes, made of whole lines.
type span struct{ start, end int }

// layout says which parts of a hosts file are ours; the rest is foreign.
type layout struct {
	// ours are the spans that we own, in file order and without overlap: blocks, and strays with their runs.
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

// parseLayout finds what is ours in content. owned are the names, in lower case, whose lines next to a stray guard
// are ours.
func parseLayout(content []byte, owned map[string]bool) layout {
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
	addOurs := func(from, to int) { // lines from..to, both included
		for _, line := range lines[from : to+1] {
			if guardOf(line) == notGuard {
				lay.lines = append(lay.lines, trimLineEnd(line))
			}
		}
		lay.ours = append(lay.ours, span{start: starts[from], end: starts[to+1]})
	}
	for g := 0; g < len(guards); g++ {
		at := guards[g]
		kind := guardOf(lines[at])
		if kind == beginGuard && g+1 < len(guards) && guardOf(lines[guards[g+1]]) == endGuard {
			addOurs(at, guards[g+1])
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
		addOurs(from, to)
	}
	if lay.home < 0 && len(lay.ours) > 0 {
		lay.home = 0
	}
	return lay
}

// isOurLine reports whether line is byte for byte what we would write, for names that we own. No guard is, so a run
// never crosses one.
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

// trimLineEnd returns line without its line end.
func trimLineEnd(line []byte) string {
	return string(bytes.TrimRight(line, "\r\n"))
}

// raw returns the block of content, guards included, or nil unless there is exactly one and nothing is broken.
func (l layout) raw(content []byte) []byte {
	if l.blocks != 1 || len(l.faults) > 0 {
		return nil
	}
	s := l.ours[l.home]
	return content[s.start:s.end]
}

// rewrite returns content without anything of ours and, unless lines is empty, with one block of lines. The block
// goes where the first block was; if there was none, where the first stray guard was; if nothing was ours, to the end
// of the file.
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
