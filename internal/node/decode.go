package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode reads a configuration as it stands. Unknown fields are faults: a
// misspelt one must not silently mean its default, nor a further document nothing.
func decode(data []byte) (Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var cfg Config
	err := dec.Decode(&cfg)
	types := (*yaml.TypeError)(nil)
	switch {
	case errors.Is(err, io.EOF):
		return Config{}, errors.New("empty; a node needs at least cluster, node, role and services")
	case errors.As(err, &types):
		return Config{}, explained(data, types)
	case err != nil:
		return Config{}, notYAML(err)
	}
	for {
		var next yaml.Node
		err := dec.Decode(&next)
		switch {
		case errors.Is(err, io.EOF):
			return cfg, nil
		case err != nil:
			return Config{}, notYAML(err)
		case next.Content[0].ShortTag() != nullTag:
			return Config{}, fmt.Errorf("line %d: a second document; a node's configuration is one: take out the --- and what does not belong", next.Content[0].Line)
		}
	}
}

const nullTag = "!!null"

// notYAML puts the parser's error into words for people.
func notYAML(err error) error {
	text := strings.TrimPrefix(oneLine(err), "yaml: ")
	where := ""
	if line, rest, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(line, "line ") {
		where, text = line+": ", rest
	}
	return fmt.Errorf("%snot YAML: %s; look at indentation and quotes", where, text)
}

// explained says what is wrong with a document that does not become a Config. The
// decoder knows the lines, but no fields, and speaks of Go's types.
func explained(data []byte, types *yaml.TypeError) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return notYAML(err)
	}
	var errs []error
	for _, fault := range faultsOf(doc.Content[0], reflect.TypeFor[Config](), "") {
		errs = append(errs, errors.New(fault))
	}
	if len(errs) == 0 {
		return errors.New(strings.Join(types.Errors, "; "))
	}
	return errors.Join(errs...)
}

// faultsOf compares a part of a document with the type that it is to become. It ends,
// whatever refers to what in the document, because types are not recursive. at is
// the part's path, such as services[0].name.
func faultsOf(n *yaml.Node, t reflect.Type, at string) (faults []string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	want := wanted(t)
	switch {
	case n.ShortTag() == nullTag: // not set
	case want != "":
		if n.Kind != yaml.ScalarNode || n.Decode(reflect.New(t).Interface()) != nil {
			faults = append(faults, fmt.Sprintf("line %d: %s: %s is not %s", n.Line, at, shown(n), want))
		}
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			faults = append(faults, faultsOf(item, t.Elem(), fmt.Sprintf("%s[%d]", at, i))...)
		}
	case t.Kind() == reflect.Slice:
		faults = append(faults, fmt.Sprintf("line %d: %s: %s is not a list; write [...], or lines that begin with -", n.Line, at, shown(n)))
	case n.Kind == yaml.MappingNode:
		faults = faultsOfFields(n, t, at)
	case at == "":
		faults = append(faults, fmt.Sprintf("line %d: %s is not a node's configuration; write lines of FIELD: VALUE, with at least cluster, role and services", n.Line, shown(n)))
	default:
		faults = append(faults, fmt.Sprintf("line %d: %s: %s is not a mapping; write FIELD: VALUE below it, with %s", n.Line, at, shown(n), strings.Join(fieldsOf(t).names, ", ")))
	}
	return faults
}

func faultsOfFields(n *yaml.Node, t reflect.Type, at string) (faults []string) {
	fields := fieldsOf(t)
	first := make(map[string]int)
	in, below := "", ""
	if at != "" {
		in, below = at+": ", at+"."
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			continue
		}
		if line, twice := first[key.Value]; twice {
			faults = append(faults, fmt.Sprintf("line %d: %sfield %q stands twice, first on line %d; take one out", key.Line, in, key.Value, line))
			continue
		}
		first[key.Value] = key.Line
		if field, ok := fields.types[key.Value]; ok {
			faults = append(faults, faultsOf(value, field, below+key.Value)...)
			continue
		}
		advice := "want one of " + strings.Join(fields.names, ", ")
		for _, name := range fields.names {
			if strings.EqualFold(name, key.Value) {
				advice = "write " + name
			}
		}
		faults = append(faults, fmt.Sprintf("line %d: %sunknown field %q; %s", key.Line, in, key.Value, advice))
	}
	return faults
}

// fields are those of a struct as they are called in YAML.
type fields struct {
	names []string // in order
	types map[string]reflect.Type
}

func fieldsOf(t reflect.Type) fields {
	all := fields{types: make(map[string]reflect.Type)}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		all.names = append(all.names, name)
		all.types[name] = f.Type
	}
	return all
}

// wanted says what a single value of a type looks like; it is empty for lists and
// mappings.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[AddrPort](), reflect.TypeFor[netip.AddrPort]():
		return "an ADDRESS:PORT, such as 10.0.0.1:6443 or [fd00::1]:6443"
	case reflect.TypeFor[netip.Prefix]():
		return "a network, such as 10.0.0.0/24, or 10.0.0.1/32 for one address"
	}
	switch t.Kind() {
	case reflect.String:
		return "a single value"
	case reflect.Bool:
		return "true or false"
	case reflect.Uint16:
		return "a number from 0 to 65535"
	default:
		return ""
	}
}

// shown is how an error calls a part of a document.
func shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(n.Value[:min(len(n.Value), 100)])
	}
}
