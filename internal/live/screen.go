package live

import (
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Screen redraws lines at the bottom of a terminal, below permanent ones. The zero value with Out set is ready to
// use. It is not safe for concurrent use.
type Screen struct {
	// Out is the terminal. Required; see [Redraws].
	Out io.Writer

	size       func() (columns, rows int) // for tests; nil asks the terminal
	drawn      []string
	drawnWidth int // the width at which they were drawn
}

// Size of terminals that do not report it.
const (
	fallbackColumns = 80
	fallbackRows    = 24
)

// Room returns how many characters fit on a line, and how many lines can be redrawn. The last column stays empty,
// because terminals differ in what happens after it, and so does the last row, for the cursor.
func (s *Screen) Room() (width, height int) {
	columns, rows := 0, 0
	if s.size != nil {
		columns, rows = s.size()
	} else if f, ok := s.Out.(*os.File); ok {
		columns, rows = sizeOf(f)
	}
	if columns <= 0 {
		columns = fallbackColumns
	}
	if rows <= 0 {
		rows = fallbackRows
	}
	return columns - 1, rows - 1
}

// Control sequences of every terminal that can redraw.
const (
	toLineEnd = "\x1b[K"
	below     = "\x1b[J"
	up        = "\x1b[A"
	hide      = "\x1b[?25l"
	show      = "\x1b[?25h"
)

// moveToTop moves to the start of the first drawn line. A terminal that became narrower has wrapped the lines.
func (s *Screen) moveToTop(b *strings.Builder) {
	width, _ := s.Room()
	rows := 0
	for _, l := range s.drawn {
		rows += max(1, (utf8.RuneCountInString(l)+width)/(width+1))
	}
	b.WriteString("\r" + strings.Repeat(up, rows))
}

// Draw replaces the drawn lines, in one write that overwrites unchanged text with itself, so that nothing flickers.
// Lines are truncated to fit, and those without room are left out.
func (s *Screen) Draw(lines []string) {
	width, height := s.Room()
	lines = slices.Clone(lines[:min(len(lines), max(height, 1))])
	for i, l := range lines {
		lines[i] = truncate(l, width)
	}
	var b strings.Builder
	b.WriteString(hide)
	s.moveToTop(&b)
	if s.drawnWidth != width {
		b.WriteString(below)
	}
	for _, l := range lines {
		b.WriteString(l + toLineEnd + "\n")
	}
	b.WriteString(below + show)
	s.drawn, s.drawnWidth = lines, width
	_, _ = io.WriteString(s.Out, b.String()) // nothing to do for a terminal that is gone
}

// Above prints a permanent line where the drawn ones began. They must be drawn again.
func (s *Screen) Above(line string) {
	var b strings.Builder
	s.moveToTop(&b)
	b.WriteString(below + sanitize(line) + "\n")
	s.drawn = nil
	_, _ = io.WriteString(s.Out, b.String())
}

// Clear removes the drawn lines.
func (s *Screen) Clear() {
	var b strings.Builder
	s.moveToTop(&b)
	b.WriteString(below)
	s.drawn = nil
	_, _ = io.WriteString(s.Out, b.String())
}
