package report

import (
	"fmt"

	"github.com/muster-dev/muster/internal/page"
)

// HTML renders the report as one self-contained page.
func (m Migration) HTML() string {
	var p page.Page
	p.Begin(fmt.Sprintf("%s: %s to %s", m.Cluster, m.From, m.To))
	m.head(&p)
	p.Put("<main>\n")
	m.availabilityCharts(&p)
	m.steps(&p)
	m.nodes(&p)
	m.permissions(&p)
	m.bridges(&p)
	m.waysBack(&p)
	m.runsTable(&p)
	entries := thousands(m.Journal.Entries) + " entries"
	if m.Journal.Entries == 1 {
		entries = "one entry"
	}
	p.Put("</main>\n<footer>Made from a journal of %s, of which the last has the SHA-256 <code>%s</code>, and from plan <code>%s</code>. "+
		"Times are UTC. A signature, if there is one, is beside this file; <code>muster report verify FILE --key PUBLIC-KEY</code> checks it.</footer>\n",
		entries, m.Journal.Head, m.Plan)
	p.End()
	return p.String()
}

// head renders the verdict, its reason and the key figures.
func (m Migration) head(p *page.Page) {
	p.Put("<header>\n<p class=\"soft\">Migration report</p>\n<h1>%s</h1>\n<p>%s &#8594; %s, carried out by %s. %s.</p>\n<p class=\"verdict\">%s %s</p>\n<dl class=\"figures\">\n",
		m.Cluster, m.From, m.To, m.Via, m.dateRange(), page.Tag(m.statusColour(), m.statusText()), m.verdictText())
	sent, failed, longest := m.probes()
	passed, gates := m.gates()
	p.Figure("", fmt.Sprintf("%d of %d", m.done(), m.planned()), "steps done")
	p.Figure(badIf(passed < gates), fmt.Sprintf("%s of %s", thousands(passed), thousands(gates)), "answers of gates passed")
	p.Figure("", thousands(m.Replacements.Total), "nodes replaced, "+m.perWorker())
	p.Figure(badIf(failed > 0), thousands(failed), fmt.Sprintf("of %s probes failed", thousands(sent)))
	p.Figure("", formatLongest(sent, longest), "longest gap")
	p.Figure("", formatDuration(m.Took), "from the first entry to the last")
	p.Put("</dl>\n</header>\n")
}

func badIf(bad bool) string {
	if bad {
		return "bad"
	}
	return ""
}
