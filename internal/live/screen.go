package live

import (
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Screen redraws lines at the bottom of a terminal, below those that stay. Its
// zero value with Out set is ready. It is not safe for concurrent use.
type Screen struct {
	// Out is the terminal. Required; see [Redraws].
	Out io.Writer

	size  func() (columns, rows int) // for tests; nil asks the terminal
	drawn []string
	wide  int // the width that they were drawn at
}

// What is taken for terminals that do not say.
const (
	fallbackColumns = 80
	fallbackRows    = 24
)

// Room is how many characters fit on a line, and how many lines can be redrawn.
// The last column stays empty, since terminals disagree on what follows it, and so
// does the last row, which is where the cursor is.
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

// Sequences that every terminal knows which can redraw.
const (
	toLineEnd = "\x1b[K"
	below     = "\x1b[J"
	up        = "\x1b[A"
	hide      = "\x1b[?25l"
	show      = "\x1b[?25h"
)

// home goes to where the first drawn line begins. A terminal that was made
// narrower has wrapped them.
func (s *Screen) home(b *strings.Builder) {
	width, _ := s.Room()
	rows := 0
	for _, l := range s.drawn {
		rows += max(1, (utf8.RuneCountInString(l)+width)/(width+1))
	}
	b.WriteString("\r" + strings.Repeat(up, rows))
}

// Draw puts lines in place of those that are drawn, in one write: what does not
// change is written over by itself, so that nothing flickers. Each line is made to
// fit, and those that there is no room for are left out.
func (s *Screen) Draw(lines []string) {
	width, height := s.Room()
	lines = slices.Clone(lines[:min(len(lines), max(height, 1))])
	for i, l := range lines {
		lines[i] = fit(l, width)
	}
	var b strings.Builder
	b.WriteString(hide)
	s.home(&b)
	if s.wide != width {
		b.WriteString(below)
	}
	for _, l := range lines {
		b.WriteString(l + toLineEnd + "\n")
	}
	b.WriteString(below + show)
	s.drawn, s.wide = lines, width
	_, _ = io.WriteString(s.Out, b.String()) // a terminal that is gone shows nothing
}

// Above writes a line that stays, where the drawn ones began. They have to be
// drawn again.
func (s *Screen) Above(line string) {
	var b strings.Builder
	s.home(&b)
	b.WriteString(below + harmless(line) + "\n")
	s.drawn = nil
	_, _ = io.WriteString(s.Out, b.String())
}

// Clear takes the drawn lines away.
func (s *Screen) Clear() {
	var b strings.Builder
	s.home(&b)
	b.WriteString(below)
	s.drawn = nil
	_, _ = io.WriteString(s.Out, b.String())
}
