package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/page"
)

// HTML renders the plan as one self-contained page: the steps, their proof, and the
// states that they lead through. story is a counterexample to show with them, or
// nil.
func (f File) HTML(story []string) string {
	var p page.Page
	g := f.graph(story)
	p.Begin(g.title)
	f.writeSummary(&p)
	p.Put("<main>\n")
	f.writeSteps(&p)
	g.writeStates(&p)
	f.writeBasis(&p)
	p.Put("</main>\n<footer>Plan <code>%s</code>, format %s.</footer>\n", f.ID, f.Format)
	p.End()
	return p.String()
}

// writeSummary writes the verdict, the figures and the announcements.
func (f File) writeSummary(p *page.Page) {
	q, c := f.Problem, f.Certificate
	p.Put("<header>\n<p class=\"soft\">Migration plan</p>\n<h1>%s</h1>\n<p>%s &#8594; %s, to be carried out by %s.</p>\n", q.Cluster, q.From, q.To, q.Via)
	defer p.Put("</header>\n")
	switch {
	case f.Refused != nil:
		p.Put("<p class=\"verdict\">%s %s.</p>\n", page.Tag("fail", "no plan"), f.Refused.Why)
		if f.Refused.Invariant != "" {
			p.Put("<p>The direct way violates %q; the shortest story of it is below.</p>\n", f.Refused.Invariant)
		}
		for _, s := range f.Refused.Settle {
			p.Put("<p>There is a plan if %s; observe that.</p>\n", s)
		}
		return
	case len(f.Steps) == 0:
		p.Put("<p class=\"verdict\">%s Nothing is left to do.</p>\n", page.Tag("done", "done"))
		return
	}
	fewest := ""
	if c.WorstAt != "" {
		fewest = fmt.Sprintf(" In none has any node fewer than %s (fewest: %d, %s).", many(c.WorstMargin, "working path"), c.WorstMargin, c.WorstAt)
	}
	p.Put("<p class=\"verdict\">%s %s states were visited, and %s held in each.%s</p>\n<dl class=\"figures\">\n", page.Tag("pass", "proven"), thousands(c.States), many(len(c.Invariants), "invariant"), fewest)
	p.Figure("", fmt.Sprint(len(f.Steps)), "steps")
	p.Figure("", duration(f.Cost.Minutes), "or so")
	p.Figure("", thousands(f.Replaced.Total), "nodes replaced, "+f.replaced())
	p.Figure("", fmt.Sprint(len(slices.DeleteFunc(slices.Clone(f.Steps), func(s Planned) bool { return !s.Hold }))), "holds, where it waits for a person")
	p.Figure("", f.wayBack(), "there is a way back")
	p.Put("</dl>\n")
	for _, e := range c.Excused {
		p.Put("<p class=\"warn\">Already broken: %s.</p>\n", e)
	}
	for _, o := range c.Outages {
		p.Put("<p class=\"warn\">Announce %s.</p>\n", o)
	}
}

// writeSteps writes the steps, each expandable to its full description.
func (f File) writeSteps(p *page.Page) {
	if len(f.Steps) == 0 {
		return
	}
	p.Put("<h2>Steps</h2>\n<ol class=\"steps\">\n")
	for _, s := range f.Steps {
		marks := page.Markup("")
		if s.Hold {
			marks += " " + page.Tag("", "hold: a person lets it begin")
		}
		if s.Bridge {
			marks += " " + page.Tag("", "bridge, taken down in "+f.endOf(s))
		}
		if s.Irreversible {
			marks += " " + page.Tag("wait", "no way back")
		}
		p.Put("<li><details id=\"step-%d\"><summary><span class=\"num\">%d</span><span>%s%s<br/><span class=\"soft\">%s</span></span><span class=\"soft\">%s</span></summary>\n<div class=\"body\"><pre>%s</pre></div></details></li>\n",
			s.Number, s.Number, s.Title, marks, s.Why, duration(s.Cost.Minutes), f.Explain(s))
	}
	p.Put("</ol>\n")
}

// writeStates writes the counterexample, if there is one, and the states with what
// each step changes.
func (g graph) writeStates(p *page.Page) {
	if len(g.story) > 0 {
		p.Put("<h2>The shortest story of an order that loses nodes</h2>\n<ol class=\"lost\">\n")
		for _, line := range g.story {
			p.Put("<li>%s</li>\n", line)
		}
		p.Put("</ol>\n")
	}
	p.Put("<h2>States</h2>\n<p class=\"soft\">Each box is the cluster between two steps, if nothing else happens, and what the step before it changed.</p>\n<ol class=\"states\">\n")
	var before []string
	for i, n := range g.nodes {
		if i > 0 {
			p.Put("<li class=\"edge\">%s <span class=\"soft\">%s</span></li>\n", n.step, strings.Join(n.notes, ", "))
		}
		p.Put("<li><ul class=\"lines\">\n")
		for _, line := range before {
			if !slices.Contains(n.state, line) {
				p.Put("<li class=\"gone\">%s</li>\n", line)
			}
		}
		for _, line := range n.state {
			class := ""
			if i > 0 && !slices.Contains(before, line) {
				class = "new"
			}
			p.Put("<li class=\"%s\">%s</li>\n", class, line)
		}
		p.Put("</ul></li>\n")
		before = n.state
	}
	p.Put("</ol>\n")
}

// writeBasis writes the assumptions and observations that the plan rests on.
func (f File) writeBasis(p *page.Page) {
	granted, starts := []string{}, f.Problem.Starts
	if f.Certificate == nil { // nothing was proven
		starts = nil
	} else {
		granted = append(granted, f.Certificate.Assumptions...)
		for _, r := range f.Certificate.Risks {
			granted = append(granted, "Risk: "+r)
		}
	}
	for i, s := range starts {
		what := strings.Join(s.Assumes, ", ") + "; where it is not so, the plan stops at a gate"
		switch {
		case len(s.Assumes) == 0:
		case len(starts) > 1:
			granted = append(granted, fmt.Sprintf("not seen, so proven for each (%d of %d): %s", i+1, len(f.Problem.Starts), what))
		default:
			granted = append(granted, what)
		}
	}
	if len(granted) > 0 {
		p.Put("<h2>Taken for granted</h2>\n<ul>\n")
		for _, g := range granted {
			p.Put("<li>%s</li>\n", g)
		}
		p.Put("</ul>\n")
	}
	if len(f.Observed) == 0 {
		return
	}
	p.Put("<h2>Observed</h2>\n")
	var rows [][]any
	for _, o := range f.Observed {
		rows = append(rows, []any{o.Subject, o.What, page.Fragment(func(p *page.Page) {
			p.Put("%s", o.Value)
			if len(o.Says) > 0 {
				p.Put("<details><summary class=\"soft\"> %s</summary>", many(len(o.Says), "line"))
				p.Lines("", "", o.Says)
				p.Put("</details>")
			}
		})})
	}
	p.Table([]string{"subject", "what", "value"}, rows)
}
