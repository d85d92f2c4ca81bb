package report

import (
	"fmt"
	"html"
	"strings"
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

// made returns what is put into a page by do.
func made(do func(p *page)) markup {
	var p page
	do(&p)
	return markup(p.String())
}

// table puts a table, whose rows turn into blocks where a screen is narrow: each
// cell then says its heading itself. A heading that begins with > is of numbers, one
// with = of what is not to be broken into lines.
func (p *page) table(heads []string, rows [][]any) {
	if len(rows) == 0 {
		return
	}
	p.put("<table>\n<thead><tr>")
	for _, h := range heads {
		class, name := styled(h)
		p.put("<th scope=\"col\"%s>%s</th>", class, name)
	}
	p.put("</tr></thead>\n<tbody>\n")
	for _, row := range rows {
		p.put("<tr>")
		for i, cell := range row {
			class, name := styled(heads[i])
			p.put("<td%s data-label=\"%s\">%s</td>", class, name, cell)
		}
		p.put("</tr>\n")
	}
	p.put("</tbody>\n</table>\n")
}

func styled(head string) (class markup, name string) {
	if name, ok := strings.CutPrefix(head, ">"); ok {
		return " class=\"n\"", name
	}
	if name, ok := strings.CutPrefix(head, "="); ok {
		return " class=\"whole\"", name
	}
	return "", head
}

// tag is a word in a colour that says how it is.
func tag(class, word string) markup {
	return made(func(p *page) { p.put("<span class=\"tag %s\">%s</span>", class, word) })
}

// HTML renders the report as one page that needs nothing from anywhere else, and
// tells browsers to fetch nothing and to run nothing.
func (m Migration) HTML() string {
	var p page
	p.put("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"+
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n<title>%s: %s to %s</title>\n<style>%s</style>\n</head>\n<body>\n",
		m.Cluster, m.From, m.To, markup(pageStyle))
	m.head(&p)
	p.put("<main>\n")
	m.charts(&p)
	m.steps(&p)
	m.nodes(&p)
	m.permissions(&p)
	m.bridges(&p)
	m.back(&p)
	m.runs(&p)
	entries := thousands(m.Journal.Entries) + " entries"
	if m.Journal.Entries == 1 {
		entries = "one entry"
	}
	p.put("</main>\n<footer>Made from a journal of %s, of which the last has the SHA-256 <code>%s</code>, and from plan <code>%s</code>. "+
		"Times are UTC. A signature, if there is one, is beside this file; <code>muster report verify FILE --key PUBLIC-KEY</code> checks it.</footer>\n</body>\n</html>\n",
		entries, m.Journal.Head, m.Plan)
	return p.String()
}

// head is the verdict, why, and the figures that carry it.
func (m Migration) head(p *page) {
	p.put("<header class=\"%s\">\n<p class=\"soft\">Migration report</p>\n<h1>%s</h1>\n<p>%s &#8594; %s, carried out by %s. %s.</p>\n<p class=\"verdict\">%s %s</p>\n",
		string(m.Verdict), m.Cluster, m.From, m.To, m.Via, m.spanned(), tag(string(m.Verdict), m.word()), m.sentence())
	p.put("<dl class=\"figures\">\n")
	figure := func(number, of string) { p.put("<div><dt>%s</dt><dd>%s</dd></div>\n", of, number) }
	strike := func(n int, number, of string) {
		class := markup("")
		if n > 0 {
			class = " class=\"bad\""
		}
		p.put("<div><dt>%s</dt><dd%s>%s</dd></div>\n", of, class, number)
	}
	sent, failed, longest := m.probes()
	figure(fmt.Sprintf("%d of %d", m.done(), m.planned()), "steps done")
	passed, gates := m.gates()
	strike(gates-passed, fmt.Sprintf("%s of %s", thousands(passed), thousands(gates)), "answers of gates passed")
	figure(thousands(m.Replacements.Total), "nodes replaced, "+m.perWorker())
	strike(failed, thousands(failed), fmt.Sprintf("of %s probes failed", thousands(sent)))
	figure(longestOf(sent, longest), "longest gap")
	figure(lasting(m.Took), "from the first entry to the last")
	p.put("</dl>\n</header>\n")
}
