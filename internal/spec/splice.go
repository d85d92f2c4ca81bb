package spec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// cut is one replacement in the source.
type cut struct {
	from, to int
	text     string
}

// source is a document's text and the offsets of its lines.
type source struct {
	data  []byte
	lines []int
	eol   string
}

func newSource(data []byte) *source {
	s := &source{data: data, lines: []int{0}, eol: "\n"}
	for i, b := range data {
		if b == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	if bytes.Contains(data, []byte("\r\n")) {
		s.eol = "\r\n"
	}
	return s
}

// offset returns where a node begins. The library counts columns in characters.
func (s *source) offset(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(s.lines) {
		return len(s.data)
	}
	at := s.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(s.data[at:])
		at += size
	}
	return at
}

func (s *source) lineOf(offset int) int {
	line, found := slices.BinarySearch(s.lines, offset)
	if found {
		return line + 1
	}
	return line
}

// afterLine returns the offset of the next line.
func (s *source) afterLine(offset int) int {
	if i := bytes.IndexByte(s.data[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(s.data)
}

// indentOnly reports whether only spaces precede offset on its line.
func (s *source) indentOnly(offset int) bool {
	start := s.lines[s.lineOf(offset)-1]
	return len(bytes.TrimLeft(s.data[start:offset], " ")) == 0
}

// descend follows a path as far as the document has it.
func descend(n *yaml.Node, path Path) (at *yaml.Node, rest Path) {
	for ; len(path) > 0; path = path[1:] {
		child := childOf(n, path[0])
		if child == nil {
			break
		}
		n = child
	}
	return n, path
}

func childOf(n *yaml.Node, step Step) *yaml.Node {
	switch {
	case step.List && n.Kind == yaml.SequenceNode && step.Index >= 0 && step.Index < len(n.Content):
		return n.Content[step.Index]
	case !step.List && n.Kind == yaml.MappingNode:
		if i := keyIndex(n, step.Key); i >= 0 {
			return n.Content[i+1]
		}
	}
	return nil
}

func keyIndex(n *yaml.Node, key string) int {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// locate returns the replacement for a change that apply accepted.
func (s *source) locate(root *yaml.Node, c Change) (cut, error) {
	at, rest := descend(root, c.path)
	if c.remove {
		parent, _ := descend(root, c.path[:len(c.path)-1])
		return s.removal(root, parent, c.path)
	}
	if len(rest) > 0 && !isNull(at) && !isEmptyFlow(at) {
		// The first missing step becomes a new entry that contains the others.
		return s.addition(at, rest[0], nest(rest[1:], c.value), c.path)
	}
	value := nest(rest, c.value)
	if text, ok := s.inline(at, value); ok {
		from, to, err := s.extent(at, 0)
		return cut{from, to, text}, s.wrap(err, c.path)
	}
	done := c.path[:len(c.path)-len(rest)]
	if len(done) == 0 {
		return cut{}, s.unsupported(c.path, at)
	}
	parent, _ := descend(root, done[:len(done)-1])
	return s.rewrite(parent, done[len(done)-1], value, c.path)
}

// nest wraps a value in the mappings and lists of a path.
func nest(path Path, value any) any {
	for _, step := range slices.Backward(path) {
		if step.List {
			value = []any{value}
		} else {
			value = map[string]any{step.Key: value}
		}
	}
	return value
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// isEmptyFlow reports {} or [], which becomes block style with its first entry, as kOps writes it.
func isEmptyFlow(n *yaml.Node) bool { return isFlow(n) && len(n.Content) == 0 }

// inline returns the text of a value that can replace a token on its line.
func (s *source) inline(old *yaml.Node, value any) (string, bool) {
	if old.Kind == yaml.MappingNode || old.Kind == yaml.SequenceNode {
		if !isFlow(old) || isEmptyFlow(old) { // flow style stays flow style
			return "", false
		}
		return flow(value)
	}
	if old.Kind != yaml.ScalarNode || old.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || isNull(old) && old.Value == "" {
		return "", false
	}
	var n yaml.Node
	if recovered(func() error { return n.Encode(value) }) != nil || n.Kind != yaml.ScalarNode {
		return "", false
	}
	if n.ShortTag() == "!!str" && old.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		n.Style = old.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle)
	}
	return oneLine(&n)
}

func flow(value any) (string, bool) {
	var n yaml.Node
	if recovered(func() error { return n.Encode(value) }) != nil {
		return "", false
	}
	n.Style |= yaml.FlowStyle
	return oneLine(&n)
}

func oneLine(n *yaml.Node) (string, bool) {
	text, err := encode(n)
	text = strings.TrimSuffix(text, "\n")
	return text, err == nil && !strings.Contains(text, "\n")
}

func encode(v any) (string, error) {
	var b strings.Builder
	err := recovered(func() error {
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(v); err != nil {
			return err
		}
		return enc.Close()
	})
	return b.String(), err
}

// render returns the indented lines of an entry of a mapping or a list.
func (s *source) render(step Step, value any, indent int) (string, error) {
	var entry any = map[string]any{step.Key: value}
	if step.List {
		entry = []any{value}
	}
	text, err := encode(entry)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString(line + s.eol)
	}
	return b.String(), nil
}

// addition inserts an entry into a mapping or a list.
func (s *source) addition(parent *yaml.Node, step Step, value any, path Path) (cut, error) {
	if parent.Kind == yaml.AliasNode || len(parent.Content) == 0 {
		return cut{}, s.unsupported(path, parent)
	}
	if isFlow(parent) {
		return s.flowAddition(parent, step, value, path)
	}
	// After the last entry that sorts before the new one, since kOps sorts, and after all of that entry's lines, so that
	// comments stay with their fields.
	last := parent.Content[len(parent.Content)-1]
	if !step.List {
		last = parent.Content[1]
		for i := 0; i+1 < len(parent.Content); i += 2 {
			if parent.Content[i].Value < step.Key {
				last = parent.Content[i+1]
			}
		}
	}
	_, end, err := s.extent(last, parent.Column-1)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	text, err := s.render(step, value, parent.Column-1)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	at := s.afterLine(end)
	if at == len(s.data) && at > 0 && s.data[at-1] != '\n' { // no newline at the end of the file
		return cut{at, at, s.eol + strings.TrimSuffix(text, s.eol)}, nil
	}
	return cut{at, at, text}, nil
}

// flowAddition inserts an entry into a mapping or list in flow style.
func (s *source) flowAddition(parent *yaml.Node, step Step, value any, path Path) (cut, error) {
	var entry any = map[string]any{step.Key: value}
	if step.List {
		entry = []any{value}
	}
	text, ok := flow(entry)
	if !ok {
		return cut{}, s.unsupported(path, parent)
	}
	_, end, err := s.extent(parent.Content[len(parent.Content)-1], 0)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	return cut{end, end, ", " + text[1:len(text)-1]}, nil
}

// entry returns where an entry of a mapping or a list begins and ends: from its key or dash to the last byte of its
// value.
func (s *source) entry(parent *yaml.Node, step Step) (from, to int, err error) {
	var value *yaml.Node
	if step.List {
		value = parent.Content[step.Index]
		from = s.offset(value)
		dash := bytes.LastIndexByte(s.data[s.lines[value.Line-1]:from], '-')
		if dash < 0 {
			return 0, 0, fmt.Errorf("its dash is on another line")
		}
		from = s.lines[value.Line-1] + dash
	} else {
		i := keyIndex(parent, step.Key)
		value = parent.Content[i+1]
		from = s.offset(parent.Content[i])
		if isNull(value) && value.Value == "" {
			_, end, err := s.extent(parent.Content[i], 0)
			if err != nil {
				return 0, 0, err
			}
			colon := bytes.IndexByte(s.data[end:], ':')
			return from, end + colon + 1, nil
		}
	}
	_, to, err = s.extent(value, parent.Column-1)
	return from, to, err
}

// rewrite replaces one entry, its lines and no others.
func (s *source) rewrite(parent *yaml.Node, step Step, value any, path Path) (cut, error) {
	if parent.Kind == yaml.AliasNode || isFlow(parent) || step.List && step.Index == Append {
		return cut{}, s.unsupported(path, parent)
	}
	from, to, err := s.entry(parent, step)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	text, err := s.render(step, value, parent.Column-1)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	return cut{from, to, strings.TrimSpace(text)}, nil
}

// removal deletes an entry's lines.
func (s *source) removal(root, parent *yaml.Node, path Path) (cut, error) {
	step := path[len(path)-1]
	if parent.Kind == yaml.AliasNode || isFlow(parent) {
		return cut{}, s.unsupported(path, parent)
	}
	only := len(parent.Content) == 1 || parent.Kind == yaml.MappingNode && len(parent.Content) == 2
	if only {
		return s.emptied(root, parent, path)
	}
	from, to, err := s.entry(parent, step)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	if s.indentOnly(from) {
		return cut{s.lines[s.lineOf(from)-1], s.afterLine(to), ""}, nil
	}
	// The first field of a list element shares the line of the dash: what follows, a comment or the second field, moves
	// there.
	if i := keyIndex(parent, step.Key); !step.List && i+2 < len(parent.Content) {
		at := s.afterLine(to)
		at += len(s.data[at:]) - len(bytes.TrimLeft(s.data[at:], " \r\n"))
		return cut{from, at, ""}, nil
	}
	return cut{}, s.unsupported(path, parent)
}

// emptied removes the only entry of a mapping or a list, which becomes {} or []. Comments between its key and the entry
// stay.
func (s *source) emptied(root, parent *yaml.Node, path Path) (cut, error) {
	if len(path) == 1 {
		return cut{}, s.unsupported(path, parent)
	}
	step, field := path[len(path)-1], path[len(path)-2]
	above, _ := descend(root, path[:len(path)-2])
	text, empty := " {}", any(map[string]any{})
	if step.List {
		text, empty = " []", []any{}
	}
	from, to, err := s.entry(parent, step)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	if field.List || isFlow(above) || above.Kind != yaml.MappingNode || !s.indentOnly(from) {
		return s.rewrite(above, field, empty, path)
	}
	_, key, err := s.extent(above.Content[keyIndex(above, field.Key)], 0)
	if err != nil {
		return cut{}, s.wrap(err, path)
	}
	colon := key + bytes.IndexByte(s.data[key:], ':') + 1
	between := s.data[colon:s.lines[s.lineOf(from)-1]]
	return cut{colon, to, text + string(bytes.TrimRight(between, "\r\n"))}, nil
}

func (s *source) unsupported(path Path, n *yaml.Node) error {
	return &Error{Path: path.String(), Line: n.Line, Msg: "is written in a way that muster does not edit; change it in an editor"}
}

func (s *source) wrap(err error, path Path) error {
	if err == nil {
		return nil
	}
	return &Error{Path: path.String(), Msg: err.Error() + "; change it in an editor"}
}
