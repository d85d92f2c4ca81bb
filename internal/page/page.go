// Package page builds self-contained HTML pages for reports and plans, for phones, dark mode and paper, without scripts.
//
// It builds strings instead of using a template engine, which would disable the linker's dead-code elimination.
//
// # Invariants
//
//   - Everything put into a page is escaped, unless it is [Markup].
//   - A page loads and runs nothing, and has a Content-Security-Policy that says so.
package page

import (
	"fmt"
	"html"
	"strings"
)

// Page is a page under construction. Its zero value is empty and ready.
type Page struct{ strings.Builder }

// Markup is a string of HTML, which is not escaped.
type Markup string

// Put writes HTML with the format of [fmt.Fprintf]. Arguments that are not [Markup] or numbers are escaped.
func (p *Page) Put(format string, args ...any) {
	for i, a := range args {
		switch v := a.(type) {
		case Markup:
			args[i] = string(v)
		case int, int64, float64:
		default:
			args[i] = html.EscapeString(fmt.Sprint(v))
		}
	}
	fmt.Fprintf(p, format, args...)
}

// Fragment returns the HTML that do puts into an empty page.
func Fragment(do func(p *Page)) Markup {
	var p Page
	do(&p)
	return Markup(p.String())
}

// Begin puts everything up to the page's body.
func (p *Page) Begin(title string) {
	p.Put("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"+
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n<title>%s</title>\n<style>%s</style>\n</head>\n<body>\n",
		title, Markup(style))
}

// End closes the body and the page.
func (p *Page) End() { p.Put("</body>\n</html>\n") }

// Table puts a table. On narrow screens its rows become blocks, each cell with its heading. The prefix > of a heading marks
// a column of numbers, = one that does not wrap. A row has at most as many cells as there are headings. An empty table is
// left out.
func (p *Page) Table(heads []string, rows [][]any) {
	if len(rows) == 0 {
		return
	}
	p.Put("<table>\n<thead><tr>")
	for _, h := range heads {
		class, name := headClass(h)
		p.Put("<th scope=\"col\"%s>%s</th>", class, name)
	}
	p.Put("</tr></thead>\n<tbody>\n")
	for _, row := range rows {
		p.Put("<tr>")
		for i, cell := range row {
			class, name := headClass(heads[i])
			p.Put("<td%s data-label=\"%s\">%s</td>", class, name, cell)
		}
		p.Put("</tr>\n")
	}
	p.Put("</tbody>\n</table>\n")
}

func headClass(head string) (class Markup, name string) {
	if name, ok := strings.CutPrefix(head, ">"); ok {
		return " class=\"n\"", name
	}
	if name, ok := strings.CutPrefix(head, "="); ok {
		return " class=\"whole\"", name
	}
	return "", head
}

// Figure puts a number and its label, for a <dl> of class figures. class is empty or "bad".
func (p *Page) Figure(class, number, of string) {
	p.Put("<div><dt>%s</dt><dd class=\"%s\">%s</dd></div>\n", of, class, number)
}

// Lines puts a list of lines. class is "minus" for removed lines, "plus" for added ones, or empty. An empty heading or list
// is left out.
func (p *Page) Lines(head, class string, lines []string) {
	if len(lines) == 0 {
		return
	}
	if head != "" {
		p.Put("<h3>%s</h3>\n", head)
	}
	p.Put("<ul class=\"lines %s\">\n", class)
	for _, l := range lines {
		p.Put("<li>%s</li>\n", l)
	}
	p.Put("</ul>\n")
}

// Tag returns a word in the colour of a class: pass, done, fail, stopped, unknown or wait; grey for any other.
func Tag(class, word string) Markup {
	return Fragment(func(p *Page) { p.Put("<span class=\"tag %s\">%s</span>", class, word) })
}
