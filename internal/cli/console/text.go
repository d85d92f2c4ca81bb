package console

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Count says how many there are of something: "1 node", "2 nodes".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// OrNone lists names in one line, or says that there are none.
func OrNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// OrNotSet returns a value, or says that there is none.
func OrNotSet(value string) string {
	if value == "" {
		return "not set"
	}
	return value
}

// Duration is d as text without units that are zero, such as 1h and not 1h0m0s.
func Duration(d time.Duration) string {
	text := d.String()
	for _, part := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, part) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Next lists the commands to type next, a line each.
func Next(commands ...string) string {
	return "next: " + strings.Join(commands, "\n      ") + "\n"
}

// LooksLikeFile reports whether an argument is the name of a file and not that of a
// cluster.
func LooksLikeFile(arg string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json", ".html"}, filepath.Ext(arg))
}

// PageWidth is how wide a page of text is at most, in columns.
const PageWidth = 120

// FoldRows writes rows whose columns line up, indented, the last column of each folded
// between words so that a line fits the page.
func FoldRows(out io.Writer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		line := "  "
		for i, cell := range row[:len(row)-1] {
			line += fmt.Sprintf("%-*s  ", widths[i], cell)
		}
		indent := utf8.RuneCountInString(line)
		for i, text := range fold(row[len(row)-1], PageWidth-indent) {
			if i > 0 {
				line = strings.Repeat(" ", indent)
			}
			fmt.Fprintln(out, line+text)
		}
	}
}

// FoldText folds the sentences of a text. Lines in which words are set apart by several
// spaces, such as those of a table, stay as they are.
func FoldText(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > PageWidth && !strings.Contains(line, "  ") {
			line = strings.Join(fold(line, PageWidth-2), "\n  ")
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// fold breaks a text between words into lines of at most width columns; a longer word
// has a line of its own.
func fold(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
