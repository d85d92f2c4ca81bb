package page

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// names returns the names of a page's elements in order.
func names(t interface{ Fatalf(string, ...any) }, text string) (all []string) {
	dec := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "<!doctype html>\n")))
	dec.Entity = xml.HTMLEntity
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v\n%s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok {
			all = append(all, e.Name.Local)
		}
	}
}

// drawn returns a page with s wherever there can be text.
func drawn(s string) string {
	var p Page
	p.Begin(s)
	p.Figure(s, s, s)
	p.Table([]string{s, ">" + s, "=" + s}, [][]any{{s, Tag(s, s), 3}})
	p.Lines(s, s, []string{s})
	p.Put("<p title=\"%s\">%s</p>", s, Fragment(func(p *Page) { p.Put("<b>%s</b>", s) }))
	p.End()
	return p.String()
}

func TestWhateverIsPutIntoAPageIsTextThere(t *testing.T) {
	want := strings.Join(names(t, drawn("x")), " ")
	hostile := []string{"<script>alert(1)</script>", `"><img src=x>`, "a & b", "'", "</style>", "</title>", "&amp;", "%s%d"}
	rapid.Check(t, func(t *rapid.T) {
		s := "x" + rapid.SampledFrom(hostile).Draw(t, "hostile") + rapid.StringOf(rapid.RuneFrom([]rune("<>&\"'/=aZ é"))).Draw(t, "more")
		if got := strings.Join(names(t, drawn(s)), " "); got != want {
			t.Fatalf("%q made other elements: %s; want %s", s, got, want)
		}
	})
}

func TestWhatThereIsNoneOfIsLeftOut(t *testing.T) {
	var p Page
	p.Table([]string{"a"}, nil)
	p.Lines("head", "", nil)
	if p.Len() > 0 {
		t.Errorf("an empty table and an empty list are %q; want nothing", p.String())
	}
}
