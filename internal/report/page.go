package report

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// page is an HTML page under construction. Every string that is put into it is
// escaped, unless it is markup.
type page struct{ strings.Builder }

// markup is a string that is HTML already.
type markup string

func (p *page) put(format string, args ...any) {
	for i, a := range args {
		switch v := a.(type) {
		case markup:
			args[i] = string(v)
		case int, int64, float64:
		default:
			args[i] = html.EscapeString(fmt.Sprint(v))
		}
	}
	fmt.Fprintf(p, format, args...)
}

// HTML renders the report as one page that needs nothing from anywhere else, and
// tells browsers to fetch nothing.
func (m Migration) HTML() string {
	var p page
	p.put("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" content=\"width=device-width\"/>\n"+
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n<title>%s: %s to %s</title>\n<style>%s</style>\n</head>\n<body>\n",
		m.Cluster, m.From, m.To, markup(pageStyle))
	m.head(&p)
	m.charts(&p)
	m.steps(&p)
	m.nodes(&p)
	m.permissions(&p)
	m.back(&p)
	m.runs(&p)
	p.put("<footer>Made from a journal of %d entries, of which the last has the SHA-256 <code>%s</code>, and from plan <code>%s</code>. "+
		"Times are UTC. A signature, if there is one, is beside this file; <code>muster report verify FILE --key PUBLIC-KEY</code> checks it.</footer>\n</body>\n</html>\n",
		m.Journal.Entries, m.Journal.Head, m.Plan)
	return p.String()
}

const pageStyle = ":root{--bg:#fff;--fg:#1b1b1b;--soft:#667;--line:#d5d8dd;--card:#f5f6f8;--good:#1a7f4b;--bad:#b42318;--wait:#9a6700;--bar:#b8c4d6}" +
	"@media(prefers-color-scheme:dark){:root{--bg:#14161a;--fg:#e3e5e8;--soft:#98a0ad;--line:#363b44;--card:#1e2127;--good:#4cc38a;--bad:#ff7b6b;--wait:#e3b341;--bar:#46536a}}" +
	"body{font:15px/1.5 system-ui,sans-serif;background:var(--bg);color:var(--fg);max-width:70rem;margin:2rem auto;padding:0 1rem}" +
	"h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.3rem 0}.soft,footer,figcaption{color:var(--soft)}" +
	".pass,.done{color:var(--good)}.fail,.stopped{color:var(--bad)}.unknown,.wait{color:var(--wait)}" +
	".verdict{font-weight:700;text-transform:uppercase}.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}" +
	".cards div{background:var(--card);padding:.6rem 1rem;border-radius:.4rem}.cards b{display:block;font-size:1.25rem}" +
	".wide{overflow-x:auto}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.25rem .8rem .25rem 0;text-align:left;vertical-align:top}" +
	"td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}details{border-bottom:1px solid var(--line);padding:.35rem 0}summary{cursor:pointer}" +
	"details>div{margin:.4rem 0 .8rem 1.2rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);padding:.6rem;margin:.3rem 0}" +
	"code{overflow-wrap:anywhere}figure{margin:1rem 0}svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:var(--fg)}svg .soft{fill:var(--soft)}footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.6rem}"

func (m Migration) head(p *page) {
	p.put("<h1>%s</h1>\n<p>%s → %s, carried out by %s. <span class=\"verdict %s\">%s</span> (%s)</p>\n", m.Cluster, m.From, m.To, m.Via, string(m.Verdict), string(m.Verdict), m.Status)
	if m.Why != "" {
		p.put("<p class=\"%s\">%s</p>\n", string(m.Verdict), m.Why)
	}
	sent, failed, longest := m.probes()
	p.put("<div class=\"cards\"><div><b>%d of %d</b>steps done</div><div><b>%d</b>nodes replaced, %s</div><div><b>%d</b>of %d probes failed</div><div><b>%s</b>longest gap</div><div><b>%s</b>%s</div></div>\n",
		m.done(), m.planned(), m.Replacements.Total, m.perWorker(), failed, sent, longestOf(sent, longest), lasting(m.Took), when(m.Began))
}

func (m Migration) charts(p *page) {
	p.put("<h2>Availability, as measured</h2>\n")
	if len(m.Availability) == 0 {
		p.put("<p class=\"unknown\">Nothing was measured.</p>\n")
	}
	for _, paths := range m.byPath() {
		p.put("<figure><figcaption>%s</figcaption>%s</figure>\n", pathWords(paths), markup(m.chart(paths)))
	}
	if len(m.Availability) > 0 {
		p.put("<div class=\"wide\"><table>\n<tr><th>path</th><th>from</th><th class=\"n\">sent</th><th class=\"n\">failed</th><th class=\"n\">longest gap</th><th>last error</th></tr>\n")
		for _, a := range m.Availability {
			p.put("<tr><td>%s</td><td>%s</td><td class=\"n\">%d</td><td class=\"n\">%d</td><td class=\"n\">%s</td><td>%s</td></tr>\n", string(a.Path), a.Vantage, a.Sent, a.Failed, milliseconds(a.Longest), a.LastErr)
		}
		p.put("</table></div>\n")
	}
	for _, u := range m.Unmeasured {
		p.put("<p class=\"unknown\">Not measured from %s: %s.</p>\n", u.Vantage, u.Why)
	}
}

func (m Migration) steps(p *page) {
	p.put("<h2>Steps</h2>\n")
	for _, s := range m.Steps {
		p.put("<details><summary>%s&ensp;%s&ensp;<span class=\"%s\">%s</span> <span class=\"soft\">%s</span></summary><div>\n", s.label(), s.Title, statusClass(s.Status), s.Status, s.inShort())
		if s.Why != "" {
			p.put("<p>%s</p>\n", s.Why)
		}
		if len(s.By) > 0 {
			p.put("<p class=\"soft\">%s to %s, by %s</p>\n", when(s.Began), when(s.Ended), strings.Join(s.By, ", "))
		}
		answers(p, "before it", s.Needs)
		for _, a := range s.Actions {
			a.render(p)
		}
		p.put("</div></details>\n")
	}
}

func (a Acted) render(p *page) {
	p.put("<p><b>%s</b> <span class=\"soft\">%s</span></p>\n", strings.TrimSpace(a.What+" "+a.about()), a.inShort())
	if a.Error != "" {
		p.put("<p class=\"fail\">%s</p>\n", a.Error)
	}
	answers(p, "gate", a.Gates)
	if a.Evidence != "" {
		p.put("<pre>%s</pre>\n", a.Evidence)
	}
	if len(a.Said) > 0 {
		p.put("<details><summary class=\"soft\">what it said, %d lines</summary><pre>%s</pre></details>\n", len(a.Said), strings.Join(a.Said, "\n"))
	}
}

func answers(p *page, head string, all []Answer) {
	if len(all) == 0 {
		return
	}
	p.put("<table>\n<tr><th>%s</th><th>answer</th><th>evidence</th><th class=\"n\">after</th><th>at</th></tr>\n", head)
	for _, g := range all {
		p.put("<tr><td>%s</td><td class=\"%s\">%s</td><td>%s</td><td class=\"n\">%s</td><td>%s</td></tr>\n", g.Name, string(g.Verdict), string(g.Verdict), g.Reason, lasting(g.Took), g.At.UTC().Format(time.TimeOnly))
	}
	p.put("</table>\n")
}

func (m Migration) nodes(p *page) {
	r := m.Replacements
	p.put("<h2>Nodes replaced</h2>\n<p>%d workers, %s; %d control-plane nodes.</p>\n", r.Workers, m.perWorker(), r.ControlPlane)
	if len(r.Nodes) == 0 {
		return
	}
	p.put("<div class=\"wide\"><table>\n<tr><th>group</th><th>node</th><th>in step</th><th>at</th></tr>\n")
	for _, n := range r.Nodes {
		name := n.Name
		if n.Canary {
			name += " (canary)"
		}
		p.put("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", n.Group, name, n.Step, when(n.At))
	}
	p.put("</table></div>\n")
}

func (m Migration) permissions(p *page) {
	p.put("<h2>Permissions</h2>\n")
	if len(m.Permissions) == 0 {
		p.put("<p class=\"soft\">The plan rests on no role's permissions.</p>\n")
		return
	}
	p.put("<table>\n<tr><th>role</th><th>before</th><th>after</th><th></th></tr>\n")
	for _, r := range m.Permissions {
		word := "as before"
		if r.Changed() {
			word = "changed"
		}
		p.put("<tr><td>%s</td><td><code>%s</code></td><td><code>%s</code></td><td>%s</td></tr>\n", r.Role, r.Before, r.After, word)
	}
	p.put("</table>\n<p class=\"soft\">Digests of all policies of a role.</p>\n")
}

func (m Migration) back(p *page) {
	p.put("<h2>Ways back</h2>\n")
	if len(m.Rollback) == 0 {
		p.put("<p class=\"soft\">No step is done.</p>\n")
		return
	}
	p.put("<table>\n<tr><th class=\"n\">after step</th><th>way back</th></tr>\n")
	for _, w := range m.Rollback {
		p.put("<tr><td class=\"n\">%d</td><td>%s</td></tr>\n", w.After, wayBack(w.Steps, w.None))
	}
	p.put("</table>\n")
}

func (m Migration) runs(p *page) {
	p.put("<h2>Runs</h2>\n<div class=\"wide\"><table>\n<tr><th>direction</th><th>by</th><th class=\"n\">lock</th><th>muster</th><th>began</th><th class=\"n\">lasted</th><th>ended</th></tr>\n")
	for _, r := range m.Runs {
		p.put("<tr><td>%s</td><td>%s</td><td class=\"n\">%d</td><td>%s</td><td>%s</td><td class=\"n\">%s</td><td>%s</td></tr>\n", r.Direction, r.By, int(r.Token), r.Program, when(r.Began), lasting(r.Ended.Sub(r.Began)), r.end())
	}
	p.put("</table></div>\n")
	if len(m.Said) > 0 {
		p.put("<p>Said by people:</p>\n<ul>\n")
		for _, s := range m.Said {
			p.put("<li>%s, %s: %s</li>\n", when(s.At), s.By, s.What)
		}
		p.put("</ul>\n")
	}
}

func statusClass(status string) string {
	switch status {
	case StepDone:
		return "done"
	case StepStopped:
		return "stopped"
	case StepAhead:
		return "soft"
	default:
		return "wait"
	}
}
