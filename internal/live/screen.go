package live

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// screen redraws lines at the bottom of a terminal. It is not safe for concurrent
// use.
type screen struct {
	out   io.Writer
	size  func() int // for tests; nil asks the terminal
	drawn []string
	wide  int // the width that they were drawn at
}

// fallbackWidth is for terminals that do not say.
const fallbackWidth = 80

// width is how many characters fit on a line. The last column stays empty, since
// terminals disagree on what follows it.
func (s *screen) width() int {
	n := 0
	if s.size != nil {
		n = s.size()
	} else if f, ok := s.out.(*os.File); ok {
		n = columns(f)
	}
	if n <= 0 {
		n = fallbackWidth
	}
	return n - 1
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
func (s *screen) home(b *strings.Builder) {
	rows := 0
	for _, l := range s.drawn {
		rows += max(1, (utf8.RuneCountInString(l)+s.width())/(s.width()+1))
	}
	b.WriteString("\r" + strings.Repeat(up, rows))
}

// draw puts lines in place of those that are drawn, in one write: what does not
// change is written over by itself, so that nothing flickers.
func (s *screen) draw(lines []string) {
	var b strings.Builder
	b.WriteString(hide)
	s.home(&b)
	if s.wide != s.width() {
		b.WriteString(below)
	}
	for _, l := range lines {
		b.WriteString(l + toLineEnd + "\n")
	}
	b.WriteString(below + show)
	s.drawn, s.wide = lines, s.width()
	_, _ = io.WriteString(s.out, b.String()) // a terminal that is gone shows nothing
}

// above writes a line that stays, where the drawn ones began. They have to be
// drawn again.
func (s *screen) above(line string) {
	var b strings.Builder
	s.home(&b)
	b.WriteString(below + line + "\n")
	s.drawn = nil
	_, _ = io.WriteString(s.out, b.String())
}

// clear takes the drawn lines away.
func (s *screen) clear() {
	var b strings.Builder
	s.home(&b)
	b.WriteString(below)
	s.drawn = nil
	_, _ = io.WriteString(s.out, b.String())
}
