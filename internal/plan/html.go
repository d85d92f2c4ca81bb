package plan

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf8"
)

// HTML renders the plan as one page that needs nothing from anywhere else: the
// steps, what proves them, and the states that they lead through as a drawing.
// story is a counter-example to show in it, or nil.
func (f File) HTML(story []string) string {
	var b strings.Builder
	g := f.graph(story)
	esc := html.EscapeString
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>%s</title>\n<style>%s</style>\n</head>\n<body>\n", esc(g.title), pageStyle)
	fmt.Fprintf(&b, "<h1>%s</h1>\n<p>plan <code>%s</code>, format %s</p>\n", esc(g.title), esc(f.ID), esc(f.Format))
	fmt.Fprintf(&b, "<pre>%s</pre>\n", esc(f.Text()))
	if len(f.Steps) > 0 {
		b.WriteString("<h2>Steps</h2>\n")
		for _, s := range f.Steps {
			fmt.Fprintf(&b, "<details id=\"step-%d\"><summary>%d &nbsp;%s</summary><pre>%s</pre></details>\n", s.Number, s.Number, esc(s.Title), esc(f.Explain(s)))
		}
	}
	b.WriteString("<h2>States</h2>\n<p>Each box is the cluster between two steps, if nothing else happens")
	if len(g.story) > 0 {
		b.WriteString("; in red, from where it begins, the shortest story of an order that loses nodes")
	}
	b.WriteString(".</p>\n")
	b.WriteString(g.svg())
	if len(f.Observed) > 0 {
		b.WriteString("<h2>Observed</h2>\n<table>\n<tr><th>subject</th><th>what</th><th>value</th></tr>\n")
		for _, o := range f.Observed {
			fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", esc(o.Subject), esc(o.What), esc(o.Value))
		}
		b.WriteString("</table>\n")
	}
	b.WriteString("</body>\n</html>\n")
	return b.String()
}

const pageStyle = "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}" +
	"pre{white-space:pre-wrap;background:#f6f6f6;padding:.8rem}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}" +
	"summary{cursor:pointer}svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}pre{background:#222}svg text{fill:#ddd}}"

// Measures of the drawing, in pixels.
const (
	boxWidth, lineHeight, gap = 460, 16, 46
	storyLeft                 = boxWidth + 40
	wrapAt                    = 68 // characters in a line
)

// svg draws states from top to bottom and the story, in red, beside them.
func (g graph) svg() string {
	var b strings.Builder
	y := g.column(&b, 10)
	height := y
	if len(g.story) > 0 {
		height = max(height, g.aside(&b, 10))
	}
	return fmt.Sprintf("<svg role=\"img\" aria-label=\"states\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n"+
		"<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"gray\"/></marker></defs>\n%s</svg>\n",
		2*boxWidth+60, height+10, 2*boxWidth+60, height+10, b.String())
}

// column draws the states and returns where the last one ends.
func (g graph) column(b *strings.Builder, y int) int {
	for i, n := range g.nodes {
		if i > 0 {
			fmt.Fprintf(b, "<line x1=\"30\" y1=\"%d\" x2=\"30\" y2=\"%d\" stroke=\"gray\" marker-end=\"url(#tip)\"/>\n", y, y+gap)
			text(b, 42, y+19, "", n.step)
			text(b, 42, y+19+lineHeight, "gray", strings.Join(n.notes, ", "))
			y += gap
		}
		y = box(b, 10, y, "gray", wrapped(n.state))
	}
	return y
}

// aside draws the story, which begins in the first state, and returns where it
// ends.
func (g graph) aside(b *strings.Builder, y int) int {
	if len(g.nodes) > 0 {
		fmt.Fprintf(b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#b00020\" stroke-dasharray=\"4\" marker-end=\"url(#tip)\"/>\n", boxWidth+10, y+12, storyLeft, y+12)
	}
	for i, line := range g.story {
		if i > 0 {
			fmt.Fprintf(b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#b00020\" marker-end=\"url(#tip)\"/>\n", storyLeft+20, y, storyLeft+20, y+18)
			y += 18
		}
		y = box(b, storyLeft, y, "#b00020", wrapped([]string{fmt.Sprintf("%d. %s", i+1, line)}))
	}
	return y
}

func box(b *strings.Builder, x, y int, colour string, lines []string) (below int) {
	height := len(lines)*lineHeight + 10
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"5\" fill=\"none\" stroke=\"%s\"/>\n", x, y, boxWidth, height, colour)
	for i, l := range lines {
		fill := ""
		if colour != "gray" {
			fill = colour
		}
		text(b, x+8, y+lineHeight*(i+1), fill, l)
	}
	return y + height
}

func text(b *strings.Builder, x, y int, fill, s string) {
	style := ""
	if fill != "" {
		style = fmt.Sprintf(" style=\"fill:%s\"", fill)
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\"%s>%s</text>\n", x, y, style, html.EscapeString(s))
}

// wrapped breaks lines between words.
func wrapped(lines []string) (out []string) {
	for _, l := range lines {
		line := ""
		for _, w := range strings.Fields(l) {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > wrapAt {
				out = append(out, line)
				line = ""
			}
			line = strings.TrimSpace(line + " " + w)
		}
		out = append(out, line)
	}
	return out
}
