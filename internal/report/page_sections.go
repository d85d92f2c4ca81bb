package report

import (
	"fmt"
	"strings"

	"github.com/muster-dev/muster/internal/page"
	"github.com/muster-dev/muster/internal/plan"
)

func (m Migration) nodes(p *page.Page) {
	r := m.Replacements
	p.Put("<h2>Nodes replaced</h2>\n<p>%s, %s; %s.</p>\n", plural(r.Workers, "worker"), m.perWorker(), plural(r.ControlPlane, "control-plane node"))
	var rows [][]any
	for _, n := range r.Nodes {
		name := page.Fragment(func(p *page.Page) {
			p.Put("%s", n.Name)
			if n.Canary {
				p.Put(" %s", page.Tag("", "canary"))
			}
		})
		rows = append(rows, []any{n.Group, name, n.Step, formatTime(n.At)})
	}
	p.Table([]string{"group", "node", "=in step", "=at"}, rows)
}

// permissions renders how the permissions of each role changed.
func (m Migration) permissions(p *page.Page) {
	p.Put("<h2>Permissions</h2>\n")
	if len(m.Permissions) == 0 {
		p.Put("<p class=\"soft\">No role was observed.</p>\n")
		return
	}
	p.Put("<div class=\"roles\">\n")
	for _, r := range m.Permissions {
		open, class := page.Markup(""), ""
		if r.Changed() {
			open, class = " open=\"open\"", "wait"
		}
		p.Put("<details%s><summary> %s %s <span class=\"soft\">%s</span></summary><div class=\"body\">\n", open, r.Role, page.Tag(class, r.statusText()), r.summary())
		p.Lines("Dropped", "minus", r.Dropped)
		p.Lines("Gained", "plus", r.Gained)
		p.Lines("Allowed now", "", r.AllowedAfter)
		p.Put("<p class=\"soft\">Digest of all its policies before <code>%s</code>, after <code>%s</code>.</p>\n</div></details>\n", r.Before, r.After)
	}
	p.Put("</div>\n")
}

func (m Migration) bridges(p *page.Page) {
	if len(m.Bridges) == 0 {
		return
	}
	p.Put("<h2>Bridges</h2>\n<p class=\"soft\">What was up only while the plan ran.</p>\n")
	var rows [][]any
	for _, b := range m.Bridges {
		down, in := any(formatTime(b.Down)), b.TakenDown
		if b.Down.IsZero() {
			down = page.Tag("wait", "may still be up")
		}
		rows = append(rows, []any{b.Title, b.By, formatTime(b.Up), down, in})
	}
	p.Table([]string{"bridge", "by", "=up", "=down", "=in step"}, rows)
}

// waysBack renders the way back from where the cluster is, and from after each earlier step. Consecutive steps with
// the same way back share a row.
func (m Migration) waysBack(p *page.Page) {
	p.Put("<h2>Ways back</h2>\n")
	if len(m.Rollback) == 0 {
		p.Put("<p class=\"soft\">No step is done.</p>\n")
		return
	}
	whose := m.Cluster
	if m.Via == string(plan.Lab) {
		whose = "--dir DIR"
	}
	p.Put("<p><code>muster reconcile rollback %s --to N --yes</code> goes back to behind step N; 0 is where the plan began. The ways to there, each proven before the first step:</p>\n", whose)
	var rows [][]any
	for i := 0; i < len(m.Rollback); {
		first, way := m.Rollback[i], m.Rollback[i].describe()
		last := first
		for i++; i < len(m.Rollback) && m.Rollback[i].describe() == way; i++ {
			last = m.Rollback[i]
		}
		after := fmt.Sprint(first.After)
		if last.After != first.After {
			after += " to " + fmt.Sprint(last.After)
		}
		rows = append(rows, []any{after, formatTime(first.At), way})
	}
	p.Table([]string{"=after step", "=since", "way back"}, rows)
}

func (m Migration) runsTable(p *page.Page) {
	p.Put("<h2>Who did it</h2>\n")
	var rows [][]any
	for _, r := range m.Runs {
		rows = append(rows, []any{string(r.Direction), r.By, formatTime(r.Began), formatDuration(r.Ended.Sub(r.Began)), r.endText(), fmt.Sprint(r.Token), r.Program})
	}
	p.Table([]string{"=run", "by", "=began", ">lasted", "ended", ">lock", "muster"}, rows)
	if len(m.Said) > 0 {
		p.Put("<h3>Said by people</h3>\n<ul>\n")
		for _, s := range m.Said {
			p.Put("<li><span class=\"soft\">%s</span> %s</li>\n", formatTime(s.At), strings.TrimSpace(s.By+": "+s.What))
		}
		p.Put("</ul>\n")
	}
}
