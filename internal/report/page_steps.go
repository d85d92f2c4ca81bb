package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/page"
)

// steps renders each step with its actions and the results of its gates. Steps that need attention are expanded.
func (m Migration) steps(p *page.Page) {
	p.Put("<h2>Steps</h2>\n<ol class=\"steps\">\n")
	for _, s := range m.Steps {
		open := page.Markup("")
		if s.Status == StepStopped || s.Status == StepUnderWay {
			open = " open=\"open\""
		}
		p.Put("<li><details%s><summary><span class=\"num\">%s</span><span>%s%s</span>%s<span class=\"soft\">%s</span></summary>\n<div class=\"body\">\n",
			open, s.label(), s.Title, s.tags(), page.Tag(statusClass(s.Status), s.Status), s.summary())
		if s.Why != "" {
			p.Put("<p>%s</p>\n", s.Why)
		}
		if len(s.By) > 0 {
			p.Put("<p class=\"soft\">%s to %s, by %s.</p>\n", formatTime(s.Began), formatClock(s.Ended), strings.Join(s.By, ", "))
		}
		m.commands(p, s)
		gateTable(p, "before it", s.Needs)
		for _, a := range s.Actions {
			a.render(p)
		}
		p.Put("</div></details></li>\n")
	}
	p.Put("</ol>\n")
}

// tags renders the tags of a step.
func (s MigrationStep) tags() page.Markup {
	all := page.Markup("")
	if s.Hold {
		all += " " + page.Tag("", "hold: a person lets it begin")
	}
	if s.Irreversible {
		all += " " + page.Tag("wait", "no way back")
	}
	return all
}

// commands renders what people told the run at a step.
func (m Migration) commands(p *page.Page, s MigrationStep) {
	for _, r := range m.Said {
		if r.Direction == s.Direction && r.Step == s.key() {
			p.Put("<p class=\"soft\">%s, %s: %s.</p>\n", formatClock(r.At), r.By, r.What)
		}
	}
}

func (a MigrationAction) render(p *page.Page) {
	p.Put("<div class=\"act\"><h3>%s</h3>\n<p class=\"soft\">%s</p>\n", strings.TrimSpace(a.What+" "+a.nodeNote()), a.summary())
	if a.Error != "" {
		p.Put("<p class=\"bad\">%s</p>\n", a.Error)
	}
	gateTable(p, "gate", a.Gates)
	if a.Evidence != "" {
		p.Put("<pre>%s</pre>\n", a.Evidence)
	}
	if len(a.Said) > 0 {
		p.Put("<details><summary class=\"soft\"> what it said, %s</summary><pre>%s</pre></details>\n", plural(len(a.Said), "line"), strings.Join(a.Said, "\n"))
	}
	p.Put("</div>\n")
}

// gateTable renders a table of gates with their evidence.
func gateTable(p *page.Page, head string, all []GateAnswer) {
	var rows [][]any
	for _, g := range all {
		rows = append(rows, []any{page.Tag(string(g.Verdict), string(g.Verdict)), g.Name, g.Reason, formatDuration(g.Took), formatClock(g.At)})
	}
	p.Table([]string{"answer", head, "evidence", ">took", ">at"}, rows)
}

func statusClass(status string) string {
	switch status {
	case StepDone:
		return "done"
	case StepStopped:
		return "stopped"
	case StepAhead:
		return ""
	default:
		return "wait"
	}
}

func formatClock(t time.Time) string { return t.UTC().Format(time.TimeOnly) }

// dateRange returns when the migration took place.
func (m Migration) dateRange() string {
	switch {
	case m.Began.IsZero():
		return "Nothing has been begun"
	case m.Began.UTC().Format(time.DateOnly) == m.Ended.UTC().Format(time.DateOnly):
		return fmt.Sprintf("%s, %s to %s UTC", m.Began.UTC().Format("2 January 2006"), m.Began.UTC().Format("15:04"), m.Ended.UTC().Format("15:04"))
	default:
		return fmt.Sprintf("%s to %s UTC", m.Began.UTC().Format("2 January 2006, 15:04"), m.Ended.UTC().Format("2 January 2006, 15:04"))
	}
}
