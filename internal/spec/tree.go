package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document with its aliases written out.
const maxNodes = 200_000

// scalar is a single value: its type and its text.
type scalar struct{ tag, value string }

// parse reads one document, as values and as nodes with their places.
func parse(data []byte) (any, *yaml.Node, error) {
	if len(data) > MaxSize {
		return nil, nil, &Error{Msg: fmt.Sprintf("document has %d bytes, over the limit of %d", len(data), MaxSize)}
	}
	if i := bytes.IndexFunc(data, oddBreak); i >= 0 || bytes.Contains(bytes.ReplaceAll(data, []byte("\r\n"), nil), []byte("\r")) {
		return nil, nil, &Error{Msg: "document has characters that end a line for some programs and not for others; save it with plain line breaks"}
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := guard(func() error { return dec.Decode(&doc) }); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil, &Error{Msg: "document is empty"}
		}
		return nil, nil, notYAML(err)
	}
	if err := guard(func() error { return dec.Decode(&second) }); !errors.Is(err, io.EOF) {
		return nil, nil, &Error{Msg: "more than one document; edit them one at a time"}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, nil, &Error{Msg: "document is no mapping"}
	}
	left := maxNodes
	tree, err := build(doc.Content[0], &left, nil)
	return tree, doc.Content[0], err
}

// oddBreak: the library takes these for line breaks, most editors do not; and
// a byte order mark shifts its columns.
func oddBreak(r rune) bool {
	return r == '\u0085' || r == '\u2028' || r == '\u2029' || r == '\ufeff'
}

// guard turns the library's panics, which it means for impossible states, into
// errors: foreign bytes must not get that far.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: reader gave up (%q)", fmt.Sprint(p))
		}
	}()
	return do()
}

// Decode reads one YAML document into v. Foreign bytes never make it panic, and
// its error has one line.
func Decode(data []byte, v any) error {
	err := guard(func() error { return yaml.Unmarshal(data, v) })
	var several *yaml.TypeError
	if errors.As(err, &several) && len(several.Errors) > 0 {
		return errors.New(several.Errors[0])
	}
	return err
}

func notYAML(err error) error {
	line, msg := 0, strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, msg = n, text
			}
		}
	}
	return &Error{Line: line, Msg: "not YAML: " + clip(msg)}
}

// build turns nodes into values: map[string]any, []any, scalar.
func build(n *yaml.Node, left *int, open []*yaml.Node) (any, error) {
	if *left--; *left < 0 {
		return nil, &Error{Line: n.Line, Msg: "aliases expand to too many values; write the values out"}
	}
	if slices.Contains(open, n) {
		return nil, &Error{Line: n.Line, Msg: "an alias stands inside what it stands for; write the values out"}
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				return nil, &Error{Line: key.Line, Msg: "a key is no single value"}
			}
			if _, ok := m[key.Value]; ok {
				return nil, &Error{Line: key.Line, Msg: fmt.Sprintf("%q stands twice in one mapping; keep one", clip(key.Value))}
			}
			v, err := build(n.Content[i+1], left, append(open, n))
			if err != nil {
				return nil, err
			}
			m[key.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			v, err := build(c, left, append(open, n))
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case yaml.AliasNode:
		return build(n.Alias, left, append(open, n))
	default:
		if n.ShortTag() == "!!null" { // null, ~ and nothing are the same
			return scalar{tag: "!!null"}, nil
		}
		return scalar{n.ShortTag(), n.Value}, nil
	}
}

// values turns what a caller sets into the same form.
func values(v any) (any, error) {
	var n yaml.Node
	if err := guard(func() error { return n.Encode(v) }); err != nil {
		return nil, err
	}
	left := maxNodes
	return build(&n, &left, nil)
}

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// apply makes the change on values.
func apply(tree any, c Change) (any, error) {
	value, err := values(c.value)
	if err != nil {
		return nil, &Error{Path: c.path.String(), Msg: err.Error()}
	}
	return change(tree, c.path, c, value)
}

func change(tree any, rest Path, c Change, value any) (any, error) {
	if len(rest) == 0 {
		return value, nil
	}
	here := c.path[:len(c.path)-len(rest)]
	step := rest[0]
	if tree == nil || tree == (scalar{tag: "!!null"}) {
		if c.remove {
			return nil, &Error{Path: c.path.String(), Msg: "is not there"}
		}
		if step.List {
			tree = []any{}
		} else {
			tree = map[string]any{}
		}
	}
	switch t := tree.(type) {
	case map[string]any:
		if step.List {
			return nil, &Error{Path: here.String(), Msg: "is a mapping, not a list"}
		}
		return changeKey(t, rest, c, value)
	case []any:
		if !step.List {
			return nil, &Error{Path: here.String(), Msg: "is a list; say which element, such as [0]"}
		}
		return changeElement(t, rest, c, value)
	default:
		return nil, &Error{Path: here.String(), Msg: "is a single value and has no fields"}
	}
}

func changeKey(t map[string]any, rest Path, c Change, value any) (any, error) {
	t = maps.Clone(t)
	key := rest[0].Key
	old, there := t[key]
	if c.remove && !there {
		return nil, &Error{Path: c.path.String(), Msg: "is not there"}
	}
	if c.remove && len(rest) == 1 {
		delete(t, key)
		return t, nil
	}
	v, err := change(old, rest[1:], c, value)
	if err != nil {
		return nil, err
	}
	t[key] = v
	return t, nil
}

func changeElement(t []any, rest Path, c Change, value any) (any, error) {
	t = slices.Clone(t)
	i := rest[0].Index
	if i == Append {
		i = len(t)
	}
	switch {
	case i > len(t), i == len(t) && c.remove:
		return nil, &Error{Path: c.path.String(), Msg: fmt.Sprintf("there are %d elements", len(t))}
	case c.remove && len(rest) == 1:
		return slices.Delete(t, i, i+1), nil
	case i == len(t):
		t = append(t, nil)
	}
	v, err := change(t[i], rest[1:], c, value)
	if err != nil {
		return nil, err
	}
	t[i] = v
	return t, nil
}
