package report

import (
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/page"
)

// Measures of a row of a chart, in pixels; how wide it is the page decides.
const (
	rowWidth  = 1000
	rowHeight = 24
	calm      = 5 // height of a cell without failures
	base      = 3 // room below it
	// numbered is the share of a chart from which on a step's number fits into it.
	numbered = 0.022
)

// charts draws all paths over one course of time: a row for each vantage point, in
// which a thin line says answered, a red block how much failed, and an empty stretch
// that nothing was measured. Above are the steps.
func (m Migration) charts(p *page.Page) {
	p.Put("<h2>Availability, as measured</h2>\n")
	if len(m.Availability) == 0 {
		p.Put("<p class=\"warn\">Nothing was measured.</p>\n")
	} else {
		p.Put("<figure>\n")
		m.band(p)
		for _, paths := range m.byPath() {
			name, figures := pathWords(paths)
			p.Put("<h3>%s <span>%s</span></h3>\n", name, figures)
			for _, a := range paths {
				m.row(p, name, a)
			}
		}
		m.axis(p)
		p.Put("<figcaption><span class=\"key ok\"></span>answered<span class=\"key no\"></span>failed, the taller the larger the share<span class=\"key off\"></span>nothing measured</figcaption>\n</figure>\n")
		var rows [][]any
		for _, a := range m.Availability {
			rows = append(rows, []any{string(a.Path), a.Vantage, thousands(a.Sent), thousands(a.Failed), milliseconds(a.Longest), a.LastErr})
		}
		p.Table([]string{"=path", "from", ">sent", ">failed", ">longest gap", "last error"}, rows)
	}
	for _, u := range m.Unmeasured {
		p.Put("<p class=\"warn\">Not measured from %s: %s.</p>\n", u.Vantage, u.Why)
	}
}

// band is when each step was.
func (m Migration) band(p *page.Page) {
	span := m.span()
	p.Put("<div class=\"lane\"><span class=\"soft\">steps</span><div class=\"track\">")
	for _, s := range m.Steps {
		if s.Began.IsZero() {
			continue
		}
		from := span.at(s.Began)
		share := max(span.at(s.Ended)-from, .002)
		label := ""
		if share > numbered && s.Direction == Forward {
			label = fmt.Sprint(s.Number)
		}
		p.Put("<span style=\"left:%s%%;width:%s%%\" title=\"%s\">%s</span>", px(100*from), px(100*share), "step "+s.label()+": "+s.Title, label)
	}
	p.Put("</div></div>\n")
}

// row is one path from one vantage point.
func (m Migration) row(p *page.Page, name string, a Availability) {
	span := m.span()
	says := fmt.Sprintf("%s from %s: %s sent, %s failed, longest gap %s", name, a.Vantage, thousands(a.Sent), thousands(a.Failed), milliseconds(a.Longest))
	p.Put("<div class=\"lane\"><span>%s</span><div class=\"track\"><svg role=\"img\" aria-label=\"%s\" viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\">\n", a.Vantage, says, rowWidth, rowHeight)
	for _, r := range a.runs() {
		r.draw(p, span)
	}
	p.Put("</svg></div></div>\n")
}

// axis is the clock below the rows.
func (m Migration) axis(p *page.Page) {
	layout := time.TimeOnly
	if m.Ended.Sub(m.Began) > 20*time.Hour {
		layout = "02 Jan 15:04"
	}
	p.Put("<div class=\"lane axis\"><span></span><div class=\"track\">")
	for i := range 3 {
		p.Put("<b>%s</b>", m.Began.Add(m.Ended.Sub(m.Began)/2*time.Duration(i)).UTC().Format(layout))
	}
	p.Put("</div></div>\n")
}

// span maps time to shares of what a chart shows.
type span struct {
	began time.Time
	lasts time.Duration
}

func (m Migration) span() span {
	return span{m.Began, max(m.Ended.Sub(m.Began), time.Second)}
}

func (s span) at(t time.Time) float64 {
	return min(max(float64(t.Sub(s.began))/float64(s.lasts), 0), 1)
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

func (r stretch) draw(p *page.Page, s span) {
	x := s.at(r.from) * rowWidth
	width := max(s.at(r.until)*rowWidth-x, 2)
	height, fill := float64(calm), "var(--ok)"
	if r.failed > 0 {
		height, fill = calm+float64(r.failed)/float64(r.sent)*(rowHeight-calm-base), "var(--no)"
	}
	p.Put("<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" fill=\"%s\"><title>%s: %s sent, %s failed</title></rect>\n",
		px(x), px(rowHeight-height-base), px(width), px(height), fill, clock(r.from), thousands(r.sent), thousands(r.failed))
}

func px(f float64) string { return fmt.Sprintf("%.2f", f) }
