package spec

import (
	"bytes"
	"errors"

	"go.yaml.in/yaml/v3"
)

var errMultiline = errors.New("is spread over several lines")

// extent returns where a node begins and ends in the source. indent is its parent's indentation in characters, which
// only block scalars need. Trailing comments are not part of a node.
func (s *source) extent(n *yaml.Node, indent int) (from, to int, err error) {
	from = s.offset(n)
	if n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		return 0, 0, errors.New("has an anchor or a tag")
	}
	switch {
	case n.Kind == yaml.AliasNode:
		return from, from + 1 + len(n.Value), nil
	case n.Kind == yaml.ScalarNode:
		to, err = s.scalarEnd(n, from, indent)
	case isFlow(n):
		to, err = s.flowEnd(n, from)
	case len(n.Content) == 0:
		err = errMultiline
	default:
		last := n.Content[len(n.Content)-1]
		if isNull(last) && last.Value == "" {
			return s.emptyEnd(n, from)
		}
		_, to, err = s.extent(last, n.Column-1)
	}
	return from, to, err
}

// emptyEnd returns the end of a mapping or list whose last value is an implicit null.
func (s *source) emptyEnd(n *yaml.Node, from int) (int, int, error) {
	if n.Kind != yaml.MappingNode {
		return 0, 0, errMultiline
	}
	_, end, err := s.extent(n.Content[len(n.Content)-2], 0)
	if err != nil {
		return 0, 0, err
	}
	colon := bytes.IndexByte(s.data[end:], ':')
	if colon < 0 {
		return 0, 0, errMultiline
	}
	return from, end + colon + 1, nil
}

func (s *source) scalarEnd(n *yaml.Node, from, indent int) (int, error) {
	rest := s.data[from:]
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return s.blockEnd(from, indent), nil
	case n.Style&yaml.SingleQuotedStyle != 0:
		for i := 1; i < len(rest); i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				i++
				continue
			}
			return from + i + 1, nil
		}
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for i := 1; i < len(rest); i++ {
			switch rest[i] {
			case '\\':
				i++
			case '"':
				return from + i + 1, nil
			}
		}
	case bytes.HasPrefix(rest, []byte(n.Value)):
		return from + len(n.Value), nil
	}
	return 0, errMultiline
}

// blockEnd returns the end of a block scalar (| or >): its last line that is indented deeper than the parent.
func (s *source) blockEnd(from, indent int) int {
	end := s.afterLine(from)
	for at := end; at < len(s.data); {
		next := s.afterLine(at)
		line := s.data[at:next]
		text := bytes.TrimLeft(line, " ")
		if len(bytes.TrimSpace(text)) > 0 {
			if len(line)-len(text) <= indent {
				break
			}
			end = next
		}
		at = next
	}
	return len(bytes.TrimRight(s.data[:end], "\r\n"))
}

// flowEnd returns the offset after the closing brace or bracket.
func (s *source) flowEnd(n *yaml.Node, from int) (int, error) {
	at := from + 1
	if len(n.Content) > 0 {
		last := n.Content[len(n.Content)-1]
		if isNull(last) && last.Value == "" {
			return 0, errMultiline
		}
		var err error
		if _, at, err = s.extent(last, 0); err != nil {
			return 0, err
		}
	}
	closing := byte('}')
	if n.Kind == yaml.SequenceNode {
		closing = ']'
	}
	for ; at < len(s.data); at++ {
		switch s.data[at] {
		case closing:
			return at + 1, nil
		case ' ', '\t', '\r', '\n', ',':
		default: // a comment, or anything else
			return 0, errMultiline
		}
	}
	return 0, errMultiline
}
