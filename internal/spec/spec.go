// Package spec changes single fields of a kOps manifest and leaves every other byte as it is: comments, order, quotes,
// blank lines, unknown fields.
//
// [Edit] locates the field with a YAML parser, splices the source text, parses the result, and returns it only if exactly
// the wanted fields differ. What cannot be spliced that way (an alias that is used elsewhere too, a value over several
// lines) is an error that says so; it has to be changed in an editor.
//
// The package is pure and knows nothing about kOps's fields. It is not a formatter: it never rewrites a document.
package spec

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize is the largest document that is edited, in bytes.
const MaxSize = 4 << 20

// Change is one wanted change. Make one with [Set], [Remove] or [ParseChange].
type Change struct {
	path   Path
	value  any
	text   string // the value as a user wrote it, or empty
	remove bool
}

// Set sets the field at path to a value: a string, number, boolean, nil, or maps and lists of these. Missing mappings
// along the path are created. The index one past a list's end, or [+], appends.
func Set(path Path, value any) Change { return Change{path: path, value: value} }

// Remove removes the field or list element at path, which must exist.
func Remove(path Path) Change { return Change{path: path, remove: true} }

// ParseChange reads PATH=VALUE, with a YAML value on one line, or PATH- to remove.
func ParseChange(s string) (Change, error) {
	path, text, set := strings.Cut(s, "=")
	if !set {
		rest, ok := strings.CutSuffix(s, "-")
		if !ok {
			return Change{}, fmt.Errorf("%q is neither PATH=VALUE nor PATH-", clip(s))
		}
		p, err := ParsePath(rest)
		return Remove(p), err
	}
	p, err := ParsePath(path)
	if err != nil {
		return Change{}, err
	}
	if strings.ContainsAny(text, "\r\n") {
		return Change{}, fmt.Errorf("%s: a value has one line", p)
	}
	var value any
	if err := Decode([]byte(text), &value); err != nil {
		return Change{}, fmt.Errorf("%s: value %q is not YAML; put it in quotes", p, clip(text))
	}
	return Change{path: p, value: value, text: text}, nil
}

// Path returns the path of the field.
func (c Change) Path() Path { return c.path }

// Removes reports whether the change removes its field.
func (c Change) Removes() bool { return c.remove }

// String returns what [ParseChange] reads.
func (c Change) String() string {
	if c.remove {
		return c.path.String() + "-"
	}
	return c.path.String() + "=" + fmt.Sprint(c.value)
}

// Error says why an edit was not made.
type Error struct {
	// Path is the field, or empty when the document as a whole cannot be edited.
	Path string
	// Line counts from 1; 0 when there is no one line.
	Line int
	Msg  string
}

// Error returns "line N: path: message".
func (e *Error) Error() string {
	msg := e.Msg
	if e.Path != "" {
		msg = e.Path + ": " + msg
	}
	if e.Line > 0 {
		msg = fmt.Sprintf("line %d: %s", e.Line, msg)
	}
	return msg
}

// Edit applies changes to one YAML document in order and returns the new text. If one of them cannot be made, it returns
// an [*Error] and no text. Setting a field to the value that it has changes nothing.
func Edit(data []byte, changes ...Change) ([]byte, error) {
	for _, c := range changes {
		edited, err := edit(data, c)
		if err != nil {
			return nil, err
		}
		data = edited
	}
	return data, nil
}

func edit(data []byte, c Change) ([]byte, error) {
	if len(c.path) == 0 {
		return nil, &Error{Msg: "no field is named"}
	}
	before, root, err := parse(data)
	if err != nil {
		return nil, err
	}
	source := newSource(data)
	c.value = c.typed(root)
	want, err := apply(before, c)
	if err != nil {
		return nil, err
	}
	if !c.remove && equal(before, want) {
		return data, nil
	}
	cut, err := source.locate(root, c)
	if err != nil {
		return nil, err
	}
	edited := bytes.Join([][]byte{data[:cut.from], []byte(cut.text), data[cut.to:]}, nil)
	after, _, err := parse(edited)
	if err != nil || !equal(after, want) {
		return nil, &Error{Path: c.path.String(), Line: source.lineOf(cut.from), Msg: "muster cannot change this place without touching others; change it in an editor"}
	}
	return edited, nil
}

// typed returns the value to set. A field that holds a string keeps one: 1.30 is not a number there.
func (c Change) typed(root *yaml.Node) any {
	if c.text == "" {
		return c.value
	}
	old, rest := descend(root, c.path)
	if len(rest) > 0 || old.Kind != yaml.ScalarNode || old.ShortTag() != "!!str" {
		return c.value
	}
	switch c.value.(type) {
	case string, nil, map[string]any, []any:
		return c.value
	}
	return c.text
}

// clip keeps foreign text in messages to a length that fits a line.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "..."
	}
	return s
}
