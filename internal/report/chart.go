package report

import (
	"fmt"
	"time"

	"github.com/muster-dev/muster/internal/page"
)

// Size of a row of a chart, in pixels; the page scales its width.
const (
	rowWidth  = 1000
	rowHeight = 24
	okHeight  = 5 // height of a cell without failures
	baseline  = 3 // space below it
	// minLabelShare is the smallest share of a chart's width in which a step's number fits.
	minLabelShare = 0.022
)

// availabilityCharts draws all paths over the same time axis: a row for each vantage point, with a thin line where
// probes succeeded, red blocks as tall as the share that failed, and gaps where nothing was measured. Above them are
// the steps.
func (m Migration) availabilityCharts(p *page.Page) {
	p.Put("<h2>Availability, as measured</h2>\n")
	if len(m.Availability) == 0 {
		p.Put("<p class=\"warn\">Nothing was measured.</p>\n")
	} else {
		p.Put("<figure>\n")
		m.stepBand(p)
		for _, paths := range m.byPath() {
			name, figures := describePath(paths)
			p.Put("<h3>%s <span>%s</span></h3>\n", name, figures)
			for _, a := range paths {
				m.pathRow(p, name, a)
			}
		}
		m.axis(p)
		p.Put("<figcaption><span class=\"key ok\"></span>answered<span class=\"key no\"></span>failed, the taller the larger the share<span class=\"key off\"></span>nothing measured</figcaption>\n</figure>\n")
		var rows [][]any
		for _, a := range m.Availability {
			rows = append(rows, []any{string(a.Path), a.Vantage, thousands(a.Sent), thousands(a.Failed), formatMillis(a.Longest), a.LastErr})
		}
		p.Table([]string{"=path", "from", ">sent", ">failed", ">longest gap", "last error"}, rows)
	}
	for _, u := range m.Unmeasured {
		p.Put("<p class=\"warn\">Not measured from %s: %s.</p>\n", u.Vantage, u.Why)
	}
}

// stepBand draws when each step took place.
func (m Migration) stepBand(p *page.Page) {
	span := m.span()
	p.Put("<div class=\"lane\"><span class=\"soft\">steps</span><div class=\"track\">")
	for _, s := range m.Steps {
		if s.Began.IsZero() {
			continue
		}
		from := span.fraction(s.Began)
		share := max(span.fraction(s.Ended)-from, .002)
		label := ""
		if share > minLabelShare && s.Direction == Forward {
			label = fmt.Sprint(s.Number)
		}
		p.Put("<span style=\"left:%s%%;width:%s%%\" title=\"%s\">%s</span>", coord(100*from), coord(100*share), "step "+s.label()+": "+s.Title, label)
	}
	p.Put("</div></div>\n")
}

// pathRow draws one path from one vantage point.
func (m Migration) pathRow(p *page.Page, name string, a Availability) {
	span := m.span()
	label := fmt.Sprintf("%s from %s: %s sent, %s failed, longest gap %s", name, a.Vantage, thousands(a.Sent), thousands(a.Failed), formatMillis(a.Longest))
	p.Put("<div class=\"lane\"><span>%s</span><div class=\"track\"><svg role=\"img\" aria-label=\"%s\" viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\">\n", a.Vantage, label, rowWidth, rowHeight)
	for _, r := range a.barRuns() {
		r.draw(p, span)
	}
	p.Put("</svg></div></div>\n")
}

// axis draws the times below the rows.
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

// span maps times to fractions of a chart's width.
type span struct {
	began time.Time
	took  time.Duration
}

func (m Migration) span() span {
	return span{m.Began, max(m.Ended.Sub(m.Began), time.Second)}
}

func (s span) fraction(t time.Time) float64 {
	return min(max(float64(t.Sub(s.began))/float64(s.took), 0), 1)
}

// barRun is a run of cells drawn as one bar.
type barRun struct {
	from, until  time.Time
	sent, failed int
}

// barRuns joins adjacent cells without failures, so that a quiet hour is one bar.
func (a Availability) barRuns() (all []barRun) {
	for _, c := range a.Course {
		from := time.Unix(c.At, 0)
		cell := barRun{from, from.Add(CellTime), c.Sent, c.Failed}
		if n := len(all); n > 0 && all[n-1].failed == 0 && c.Failed == 0 && all[n-1].until.Equal(from) {
			all[n-1].until = cell.until
			all[n-1].sent += c.Sent
			continue
		}
		all = append(all, cell)
	}
	return all
}

func (r barRun) draw(p *page.Page, s span) {
	x := s.fraction(r.from) * rowWidth
	width := max(s.fraction(r.until)*rowWidth-x, 2)
	height, fill := float64(okHeight), "var(--ok)"
	if r.failed > 0 {
		height, fill = okHeight+float64(r.failed)/float64(r.sent)*(rowHeight-okHeight-baseline), "var(--no)"
	}
	p.Put("<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" fill=\"%s\"><title>%s: %s sent, %s failed</title></rect>\n",
		coord(x), coord(rowHeight-height-baseline), coord(width), coord(height), fill, formatClock(r.from), thousands(r.sent), thousands(r.failed))
}

func coord(f float64) string { return fmt.Sprintf("%.2f", f) }
