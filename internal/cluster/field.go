package cluster

import (
	"math"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader reads one file. It collects faults instead of stopping at the first.
type reader struct {
	file    string
	faults  []*SpecError
	dropped int

	// indexed caches the fields of each mapping, so that its faults are reported once.
	indexed map[*yaml.Node]map[string]*yaml.Node
}

// field is a node of the document with its path. A field that is absent, null or below something unusable has a nil node
// and reads as zero values, so a path can be followed without a check at each step.
type field struct {
	r     *reader
	node  *yaml.Node
	owner string // begins messages: empty, or `instance group "nodes": `
	path  string // as kOps writes it: spec.subnets[0].cidr
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// resolve follows an alias and drops nulls.
func resolve(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || isNull(n) {
		return nil
	}
	return n
}

func (f field) present() bool { return f.node != nil }

func (f field) line() int {
	if f.node == nil {
		return 0
	}
	return f.node.Line
}

// fault records a fault at the field.
func (f field) fault(format string, args ...any) {
	f.r.fault(f.line(), f.owner+f.path+" "+format, args...)
}

// at returns the field below f with the given key.
func (f field) at(key string) field {
	child := field{r: f.r, owner: f.owner, path: key}
	if f.path != "" {
		child.path = f.path + "." + key
	}
	if f.node == nil {
		return child
	}
	child.node = resolve(f.r.index(f)[key])
	return child
}

// index returns a mapping's fields by key, merge keys folded in.
func (r *reader) index(f field) map[string]*yaml.Node {
	if fields, ok := r.indexed[f.node]; ok {
		return fields
	}
	fields := map[string]*yaml.Node{}
	r.indexed[f.node] = fields
	if !isMapping(f.node) {
		r.fault(f.node.Line, "%s%s is %s; a mapping belongs here", f.owner, nameOf(f.path), kindOf(f.node))
		return fields
	}
	var merges []field
	for i := 0; i+1 < len(f.node.Content); i += 2 {
		key, value := resolve(f.node.Content[i]), f.node.Content[i+1]
		if key == nil || key.Kind != yaml.ScalarNode {
			continue
		}
		if key.ShortTag() == "!!merge" {
			merges = append(merges, r.merged(f, value)...)
			continue
		}
		if first, ok := fields[key.Value]; ok {
			r.fault(key.Line, "%s%s has %q twice, first with the value on line %d; keep one",
				f.owner, nameOf(f.path), clip(key.Value), first.Line)
			continue
		}
		fields[key.Value] = value
	}
	for _, m := range merges {
		for key, value := range r.index(m) {
			if _, ok := fields[key]; !ok {
				fields[key] = value
			}
		}
	}
	return fields
}

// merged returns the mappings that a merge key ("<<") names, first wins.
func (r *reader) merged(f field, value *yaml.Node) []field {
	m := field{r: r, node: resolve(value), owner: f.owner, path: f.path}
	switch {
	case m.node == nil:
		return nil
	case m.node.Kind != yaml.SequenceNode:
		return []field{m}
	}
	var all []field
	for _, item := range m.node.Content {
		if n := resolve(item); n != nil {
			all = append(all, field{r: r, node: n, owner: f.owner, path: f.path})
		}
	}
	return all
}

// nameOf names a place in messages; a document has no path of its own.
func nameOf(path string) string {
	if path == "" {
		return "document"
	}
	return path
}

func isMapping(n *yaml.Node) bool { return n.Kind == yaml.MappingNode }

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// list returns the elements of a list; a missing list has none.
func (f field) list() []field {
	if f.node == nil {
		return nil
	}
	if f.node.Kind != yaml.SequenceNode {
		f.fault("is %s; a list belongs here", kindOf(f.node))
		return nil
	}
	elements := make([]field, len(f.node.Content))
	for i, n := range f.node.Content {
		elements[i] = field{r: f.r, node: resolve(n), owner: f.owner, path: f.path + "[" + strconv.Itoa(i) + "]"}
	}
	return elements
}

// text returns a single value as it is written, quotes removed.
func (f field) text() string {
	if f.node == nil {
		return ""
	}
	if f.node.Kind != yaml.ScalarNode {
		f.fault("is %s; a single value belongs here", kindOf(f.node))
		return ""
	}
	return f.node.Value
}

// isEmptyText reports whether the empty text is written out, as "".
func (f field) isEmptyText() bool {
	return f.node != nil && f.node.Kind == yaml.ScalarNode && f.node.Value == ""
}

// boolean returns true or false; a missing field is false.
func (f field) boolean() bool {
	if f.node == nil {
		return false
	}
	var b bool
	if f.node.Kind != yaml.ScalarNode || f.node.Decode(&b) != nil {
		f.fault("is neither true nor false; write one of them")
		return false
	}
	return b
}

// count returns a number of nodes and whether there is one.
func (f field) count() (n int, ok bool) {
	if f.node == nil {
		return 0, false
	}
	var i int64
	if f.node.Kind != yaml.ScalarNode || f.node.ShortTag() != "!!int" || f.node.Decode(&i) != nil {
		f.fault("is not a whole number; write one such as 3, without quotes")
		return 0, false
	}
	if i < 0 || i > math.MaxInt32 {
		f.fault("is %d; write a number from 0 to %d", i, math.MaxInt32)
		return 0, false
	}
	return int(i), true
}

// prefix returns a network; a missing one is the zero prefix.
func (f field) prefix() netip.Prefix {
	s := f.text()
	if s == "" {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		hint := "write it as address/length, such as 10.80.0.0/16"
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			hint = "did you mean " + netip.PrefixFrom(a, a.BitLen()).String() + "?"
		}
		f.fault("%q is no CIDR; %s", clip(s), hint)
		return netip.Prefix{}
	}
	if p != p.Masked() {
		f.fault("%q has bits beyond its length, which kOps refuses; did you mean %s?", clip(s), p.Masked())
		return netip.Prefix{}
	}
	return p
}

// addrPort returns an address with a port. With portOptional the port may be left out and reads as 0; otherwise the host
// may be left out and reads as [::].
func (f field) addrPort(portOptional bool) netip.AddrPort {
	s := f.text()
	if s == "" {
		return netip.AddrPort{}
	}
	if portOptional {
		if a, err := netip.ParseAddr(s); err == nil {
			return netip.AddrPortFrom(a, 0)
		}
	} else if strings.HasPrefix(s, ":") {
		s = "[::]" + s
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		f.fault("%q is no address and port; write it as 0.0.0.0:3999 or [::]:3999", clip(f.node.Value))
		return netip.AddrPort{}
	}
	return ap
}

// oneOf returns the text if it is among the values. The comparison is exact, as in kOps.
func oneOf[T ~string](f field, values ...T) T {
	s := f.text()
	if s == "" {
		return ""
	}
	names := make([]string, len(values))
	for i, v := range values {
		if s == string(v) {
			return v
		}
		names[i] = string(v)
	}
	f.fault("is %q; kOps knows %s", clip(s), strings.Join(names, ", "))
	return ""
}

// either returns whichever of a field's two spellings is present: f is that of v1alpha2, g that of kOps's internal
// version. Both is a fault.
func either(f, g field) field {
	if !g.present() {
		return f
	}
	if f.present() {
		g.fault("says the same as %s on line %d; keep one of them", f.path, f.line())
		return f
	}
	return g
}
