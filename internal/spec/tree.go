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

// maxNodes bounds a document with its aliases expanded.
const maxNodes = 200_000

// scalar is a single value: its type and its text.
type scalar struct{ tag, value string }

// parse reads one document, as a tree of values and as YAML nodes.
func parse(data []byte) (any, *yaml.Node, error) {
	if len(data) > MaxSize {
		return nil, nil, &Error{Msg: fmt.Sprintf("document has %d bytes, over the limit of %d", len(data), MaxSize)}
	}
	if i := bytes.IndexFunc(data, ambiguousBreak); i >= 0 || bytes.Contains(bytes.ReplaceAll(data, []byte("\r\n"), nil), []byte("\r")) {
		return nil, nil, &Error{Msg: "document has characters that end a line for some programs and not for others; save it with plain line breaks"}
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := recovered(func() error { return dec.Decode(&doc) }); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil, &Error{Msg: "document is empty"}
		}
		return nil, nil, notYAML(err)
	}
	if err := recovered(func() error { return dec.Decode(&second) }); !errors.Is(err, io.EOF) {
		return nil, nil, &Error{Msg: "more than one document; edit them one at a time"}
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, nil, &Error{Msg: "document is no mapping"}
	}
	left := maxNodes
	tree, err := build(doc.Content[0], &left, nil)
	return tree, doc.Content[0], err
}

// ambiguousBreak reports characters that the library takes for line breaks and most editors do not, and the byte order
// mark, which shifts the library's columns.
func ambiguousBreak(r rune) bool {
	return r == '\u0085' || r == '\u2028' || r == '\u2029' || r == '\ufeff'
}

// recovered runs do and turns the library's panics, meant for impossible states, into errors: foreign input must not
// panic.
func recovered(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: reader gave up (%q)", fmt.Sprint(p))
		}
	}()
	return do()
}

// Decode reads one YAML document into v. It never panics on foreign input, and its error is one line.
func Decode(data []byte, v any) error {
	err := recovered(func() error { return yaml.Unmarshal(data, v) })
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

// build turns nodes into a tree of map[string]any, []any and scalar. left bounds the nodes to come; open are the
// enclosing nodes, to detect cycles.
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
		if n.ShortTag() == "!!null" { // null, ~ and an empty value are the same
			return scalar{tag: "!!null"}, nil
		}
		return scalar{n.ShortTag(), n.Value}, nil
	}
}

// toTree turns a value that a caller sets into such a tree.
func toTree(v any) (any, error) {
	var n yaml.Node
	if err := recovered(func() error { return n.Encode(v) }); err != nil {
		return nil, err
	}
	left := maxNodes
	return build(&n, &left, nil)
}

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// apply makes the change on the tree.
func apply(tree any, c Change) (any, error) {
	value, err := toTree(c.value)
	if err != nil {
		return nil, &Error{Path: c.path.String(), Msg: err.Error()}
	}
	return applyAt(tree, c.path, c, value)
}

func applyAt(tree any, rest Path, c Change, value any) (any, error) {
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
		return applyToMap(t, rest, c, value)
	case []any:
		if !step.List {
			return nil, &Error{Path: here.String(), Msg: "is a list; say which element, such as [0]"}
		}
		return applyToList(t, rest, c, value)
	default:
		return nil, &Error{Path: here.String(), Msg: "is a single value and has no fields"}
	}
}

func applyToMap(t map[string]any, rest Path, c Change, value any) (any, error) {
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
	v, err := applyAt(old, rest[1:], c, value)
	if err != nil {
		return nil, err
	}
	t[key] = v
	return t, nil
}

func applyToList(t []any, rest Path, c Change, value any) (any, error) {
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
	v, err := applyAt(t[i], rest[1:], c, value)
	if err != nil {
		return nil, err
	}
	t[i] = v
	return t, nil
}
