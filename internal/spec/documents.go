package spec

import (
	"bytes"
	"strings"
)

// Document is one of the YAML documents of a file, byte for byte.
type Document struct {
	// Line is the document's first line in the file, counted from 1.
	Line int
	Data []byte
}

// Documents splits a file at its --- lines. Documents of only comments and blank lines are left out. A --- line with
// content, and whatever follows a ... line, stay with the preceding document, where a parser refuses them.
func Documents(data []byte) []Document {
	var docs []Document
	current := Document{Line: 1}
	line := 0
	flush := func() {
		if !blank(current.Data) {
			docs = append(docs, current)
		}
	}
	for text := range bytes.Lines(data) {
		line++
		if rest, ok := bytes.CutPrefix(text, []byte("---")); ok && isSeparatorRest(rest) {
			flush()
			current = Document{Line: line + 1}
			continue
		}
		current.Data = append(current.Data, text...)
	}
	flush()
	return docs
}

// isSeparatorRest reports whether only blanks or a comment follow a separator.
func isSeparatorRest(rest []byte) bool {
	text := strings.TrimRight(string(rest), " \t\r\n")
	return text == "" || strings.HasPrefix(strings.TrimLeft(text, " \t"), "#") && text[0] != '#'
}

func blank(data []byte) bool {
	for text := range bytes.Lines(data) {
		text = bytes.TrimSpace(text)
		if len(text) > 0 && text[0] != '#' {
			return false
		}
	}
	return true
}
