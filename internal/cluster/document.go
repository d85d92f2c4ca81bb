package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// decode reads the next document and returns its root. The library panics on states that it considers impossible;
// foreign input must not panic.
func decode(dec *yaml.Decoder) (node *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			node, err = nil, fmt.Errorf("yaml: reader gave up (%q)", fmt.Sprint(p))
		}
	}()
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0], nil
	}
	return &doc, nil
}

// describeYAML turns the library's error into a line number and a sentence.
func describeYAML(err error, data []byte) (line int, msg string) {
	msg = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, msg = n, text
			}
		}
	}
	// The library quotes the anchor, and a password that begins with an
	// asterisk and lacks quotes looks like one.
	if rest, ok := strings.CutPrefix(msg, "unknown anchor '"); ok {
		anchor := strings.TrimSuffix(rest, "' referenced")
		if i := bytes.Index(data, []byte("*"+anchor)); i >= 0 {
			line = lineAt(data, i)
		}
		return line, "a value begins with an asterisk but no anchor has that name; put the value in quotes"
	}
	if i := firstInvalid(data); line == 0 && i >= 0 {
		return lineAt(data, i), clip(msg) + "; save the file as UTF-8 text"
	}
	if line == 0 || fromParser(msg) {
		line++
	}
	return line, clip(msg) + "; look at indentation and quotes near this place"
}

// fromParser tells the library's parser errors from its scanner errors: only the latter count lines from 1.
func fromParser(msg string) bool {
	return slices.ContainsFunc([]string{
		"did not find expected <",
		"did not find expected ','",
		"did not find expected '-'",
		"did not find expected key",
		"did not find expected node content",
		"found undefined tag handle",
		"found duplicate %",
		"found incompatible YAML document",
	}, func(prefix string) bool { return strings.HasPrefix(msg, prefix) })
}

func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// firstInvalid returns the offset of the first byte that is not UTF-8 text, or -1.
func firstInvalid(data []byte) int {
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && size == 1 || c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return i
		}
		i += size
	}
	return -1
}

// expansion computes how many nodes a document has with its aliases expanded, visiting each node once.
type expansion struct {
	sizes map[*yaml.Node]int // 0 while the node is being visited
}

// size returns the expanded size of a node, capped a little above maxNodes, or the alias that closes a cycle.
func (w *expansion) size(n *yaml.Node) (size int, cycle *yaml.Node) {
	size = 1
	w.sizes[n] = 0
	for _, child := range n.Content {
		cw, bad := w.size(child)
		if bad != nil {
			return 0, bad
		}
		size = min(size+cw, maxNodes+1)
	}
	if n.Kind == yaml.AliasNode {
		target, seen := w.sizes[n.Alias]
		if !seen || target == 0 {
			return 0, n
		}
		size = min(size+target, maxNodes+1)
	}
	w.sizes[n] = size
	return size, nil
}

// clip keeps foreign text in messages to a length that fits a line.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
