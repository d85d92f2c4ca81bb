package console

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFoldedTextLeavesTablesAlone(t *testing.T) {
	row := "  1  " + strings.Repeat("a ", 100)
	text := row + "\nrisk: " + strings.TrimSpace(strings.Repeat("word ", 40)) + "\n\nshort\n"
	got := FoldText(text)
	want := row + "\nrisk: " + strings.TrimSpace(strings.Repeat("word ", 22)) + "\n  " + strings.TrimSpace(strings.Repeat("word ", 18)) + "\n\nshort\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFold(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"a text that fits is one line", "one two", []string{"one two"}},
		{"it is broken between words", "one two three", []string{"one two", "three"}},
		{"a word that fits nowhere has a line of its own", "a https://example.com b", []string{"a", "https://example.com", "b"}},
		{"letters count, not bytes", "ää öö üü", []string{"ää öö üü"}},
		{"nothing is one empty line", "", []string{""}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, fold(tt.text, 8)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 10 * time.Second: "10s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q; want %q", d, got, want)
		}
	}
}
