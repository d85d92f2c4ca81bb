package report

import (
	"fmt"
	"time"
)

// Measures of a chart, in pixels of its own.
const (
	chartWidth  = 960
	chartLeft   = 190 // where time begins; labels are before it
	rowHeight   = 20
	chartHeader = 34 // the steps, and the clock
	labelLength = 30 // characters
	calm        = 4  // height of a cell without failures
)

// chart draws one path: a row for each vantage point, in which a thin line says
// answered, a red block how much failed, and an empty stretch that nothing was
// measured. Above are the steps.
func (m Migration) chart(paths []Availability) string {
	var p page
	height := chartHeader + rowHeight*len(paths) + 6
	p.put("<svg role=\"img\" aria-label=\"%s\" viewBox=\"0 0 %d %d\">\n", pathWords(paths), chartWidth, height)
	span := m.span()
	for i, s := range m.Steps {
		if s.Began.IsZero() {
			continue
		}
		x := span.x(s.Began)
		width := max(span.x(s.Ended)-x, 1)
		p.put("<rect x=\"%s\" y=\"14\" width=\"%s\" height=\"14\" fill=\"var(--bar)\" fill-opacity=\"%s\"><title>%s</title></rect>\n", px(x), px(width), []string{"1", ".6"}[i%2], s.Title)
		if s.Direction == Forward && width > 14 {
			p.put("<text x=\"%s\" y=\"25\">%d</text>\n", px(x+3), s.Number)
		}
	}
	p.put("<text class=\"soft\" x=\"%d\" y=\"10\">%s</text><text class=\"soft\" x=\"%d\" y=\"10\" text-anchor=\"end\">%s</text>\n",
		chartLeft, m.Began.UTC().Format(time.TimeOnly), chartWidth, m.Ended.UTC().Format(time.TimeOnly))
	for i, a := range paths {
		y := chartHeader + rowHeight*i
		p.put("<text x=\"0\" y=\"%d\">%s</text>\n", y+rowHeight-6, shortened(a.Vantage))
		for _, r := range a.runs() {
			r.draw(&p, span, y)
		}
	}
	p.put("</svg>")
	return p.String()
}

// span maps time to pixels.
type span struct {
	began time.Time
	lasts time.Duration
}

func (m Migration) span() span {
	return span{m.Began, max(m.Ended.Sub(m.Began), time.Second)}
}

func (s span) x(t time.Time) float64 {
	share := min(max(float64(t.Sub(s.began))/float64(s.lasts), 0), 1)
	return chartLeft + share*(chartWidth-chartLeft)
}

// stretch is a run of cells that are drawn as one.
type stretch struct {
	from, until  time.Time
	sent, failed int
}

// runs joins neighbours without failures, so that a quiet hour is one line.
func (a Availability) runs() (all []stretch) {
	for _, c := range a.Course {
		from := time.Unix(c.At, 0)
		cell := stretch{from, from.Add(CellTime), c.Sent, c.Failed}
		if n := len(all); n > 0 && all[n-1].failed == 0 && c.Failed == 0 && all[n-1].until.Equal(from) {
			all[n-1].until = cell.until
			all[n-1].sent += c.Sent
			continue
		}
		all = append(all, cell)
	}
	return all
}

func (r stretch) draw(p *page, s span, top int) {
	x := s.x(r.from)
	width := max(s.x(r.until)-x, 1)
	height, fill := float64(calm), "var(--good)"
	if r.failed > 0 {
		height, fill = calm+float64(r.failed)/float64(r.sent)*(rowHeight-calm-2), "var(--bad)"
	}
	p.put("<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" fill=\"%s\"><title>%s: %d sent, %d failed</title></rect>\n",
		px(x), px(float64(top+rowHeight)-height-2), px(width), px(height), fill, r.from.UTC().Format(time.TimeOnly), r.sent, r.failed)
}

func px(f float64) string { return fmt.Sprintf("%.1f", f) }

// shortened keeps the end of a name, which tells nodes apart.
func shortened(name string) string {
	r := []rune(name)
	if len(r) <= labelLength {
		return name
	}
	return "…" + string(r[len(r)-labelLength+1:])
}
