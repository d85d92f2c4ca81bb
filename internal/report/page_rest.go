package report

import (
	"fmt"
	"strings"

	"github.com/muster-dev/muster/internal/plan"
)

func (m Migration) nodes(p *page) {
	r := m.Replacements
	p.put("<h2>Nodes replaced</h2>\n<p>%s, %s; %s.</p>\n", counted(r.Workers, "worker"), m.perWorker(), counted(r.ControlPlane, "control-plane node"))
	var rows [][]any
	for _, n := range r.Nodes {
		name := made(func(p *page) {
			p.put("%s", n.Name)
			if n.Canary {
				p.put(" %s", tag("", "canary"))
			}
		})
		rows = append(rows, []any{n.Group, name, n.Step, when(n.At)})
	}
	p.table([]string{"group", "node", "=in step", "=at"}, rows)
}

// permissions says in words what each role may do and what it lost.
func (m Migration) permissions(p *page) {
	p.put("<h2>Permissions</h2>\n")
	if len(m.Permissions) == 0 {
		p.put("<p class=\"soft\">No role was observed.</p>\n")
		return
	}
	p.put("<div class=\"roles\">\n")
	for _, r := range m.Permissions {
		open, class := markup(""), ""
		if r.Changed() {
			open, class = " open=\"open\"", "wait"
		}
		p.put("<details%s><summary> %s %s <span class=\"soft\">%s</span></summary><div class=\"body\">\n", open, r.Role, tag(class, r.word()), r.inShort())
		lines(p, "Dropped", "minus", r.Dropped)
		lines(p, "Gained", "plus", r.Gained)
		lines(p, "Allowed now", "", r.AllowedAfter)
		p.put("<p class=\"soft\">Digest of all its policies before <code>%s</code>, after <code>%s</code>.</p>\n</div></details>\n", r.Before, r.After)
	}
	p.put("</div>\n")
}

func lines(p *page, head, class string, all []string) {
	if len(all) == 0 {
		return
	}
	p.put("<h3>%s</h3>\n<ul class=\"lines %s\">\n", head, class)
	for _, l := range all {
		p.put("<li>%s</li>\n", l)
	}
	p.put("</ul>\n")
}

func (m Migration) bridges(p *page) {
	if len(m.Bridges) == 0 {
		return
	}
	p.put("<h2>Bridges</h2>\n<p class=\"soft\">What was up only while the plan ran.</p>\n")
	var rows [][]any
	for _, b := range m.Bridges {
		down, in := any(when(b.Down)), b.TakenDown
		if b.Down.IsZero() {
			down = tag("wait", "may still be up")
		}
		rows = append(rows, []any{b.Title, b.By, when(b.Up), down, in})
	}
	p.table([]string{"bridge", "by", "=up", "=down", "=in step"}, rows)
}

// back shows the way back from where the cluster is, and from behind each step
// before. Steps from which it is the same are one row.
func (m Migration) back(p *page) {
	p.put("<h2>Ways back</h2>\n")
	if len(m.Rollback) == 0 {
		p.put("<p class=\"soft\">No step is done.</p>\n")
		return
	}
	whose := m.Cluster
	if m.Via == string(plan.Lab) {
		whose = "--dir DIR"
	}
	p.put("<p><code>muster reconcile rollback %s --to N --yes</code> goes back to behind step N; 0 is where the plan began. The ways to there, each proven before the first step:</p>\n", whose)
	var rows [][]any
	for i := 0; i < len(m.Rollback); {
		first, way := m.Rollback[i], m.Rollback[i].words()
		last := first
		for i++; i < len(m.Rollback) && m.Rollback[i].words() == way; i++ {
			last = m.Rollback[i]
		}
		after := fmt.Sprint(first.After)
		if last.After != first.After {
			after += " to " + fmt.Sprint(last.After)
		}
		rows = append(rows, []any{after, when(first.At), way})
	}
	p.table([]string{"=after step", "=since", "way back"}, rows)
}

func (m Migration) runs(p *page) {
	p.put("<h2>Who did it</h2>\n")
	var rows [][]any
	for _, r := range m.Runs {
		rows = append(rows, []any{string(r.Direction), r.By, when(r.Began), lasting(r.Ended.Sub(r.Began)), r.end(), fmt.Sprint(r.Token), r.Program})
	}
	p.table([]string{"=run", "by", "=began", ">lasted", "ended", ">lock", "muster"}, rows)
	if len(m.Said) > 0 {
		p.put("<h3>Said by people</h3>\n<ul>\n")
		for _, s := range m.Said {
			p.put("<li><span class=\"soft\">%s</span> %s</li>\n", when(s.At), strings.TrimSpace(s.By+": "+s.What))
		}
		p.put("</ul>\n")
	}
}
