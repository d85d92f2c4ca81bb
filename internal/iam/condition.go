package iam

import (
	"slices"
	"strings"
)

// truth is a three-valued truth value.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

func (t truth) not() truth { return yes - t }

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// An atom is a compiled condition: a predicate over the values of one key.
type atom struct {
	id       string // equal for equivalent conditions
	text     string // for people
	key      string // lower case
	name     string // the key as written
	quantity quantity
	kind     atomKind
	negated  bool // text operators: no value may match
	ifExists bool
	globs    []glob   // of text operators
	null     []string // of Null: its values, lower case
}

type quantity uint8

const (
	single quantity = iota
	anyValue
	allValues
)

type atomKind uint8

const (
	// opaque: an unknown operator.
	opaque atomKind = iota
	// opaqueValue: the result for a value is not modelled, but an absent key is decided as for every such operator.
	opaqueValue
	text
	null
)

// operators are AWS's operators, without prefix and IfExists. A negated one holds if its key is absent.
var operators = map[string]struct {
	kind    atomKind
	dialect dialect
	arn     bool
	negated bool
}{
	"StringEquals":              {kind: text},
	"StringNotEquals":           {kind: text, negated: true},
	"StringEqualsIgnoreCase":    {kind: text, dialect: dialect{fold: true}},
	"StringNotEqualsIgnoreCase": {kind: text, dialect: dialect{fold: true}, negated: true},
	"StringLike":                {kind: text, dialect: dialect{wild: true}},
	"StringNotLike":             {kind: text, dialect: dialect{wild: true}, negated: true},
	"ArnEquals":                 {kind: text, arn: true},
	"ArnLike":                   {kind: text, arn: true},
	"ArnNotEquals":              {kind: text, arn: true, negated: true},
	"ArnNotLike":                {kind: text, arn: true, negated: true},
	"Bool":                      {kind: text, dialect: dialect{fold: true}},
	"Null":                      {kind: null},
	"NumericEquals":             {kind: opaqueValue},
	"NumericNotEquals":          {kind: opaqueValue, negated: true},
	"NumericLessThan":           {kind: opaqueValue},
	"NumericLessThanEquals":     {kind: opaqueValue},
	"NumericGreaterThan":        {kind: opaqueValue},
	"NumericGreaterThanEquals":  {kind: opaqueValue},
	"DateEquals":                {kind: opaqueValue},
	"DateNotEquals":             {kind: opaqueValue, negated: true},
	"DateLessThan":              {kind: opaqueValue},
	"DateLessThanEquals":        {kind: opaqueValue},
	"DateGreaterThan":           {kind: opaqueValue},
	"DateGreaterThanEquals":     {kind: opaqueValue},
	"BinaryEquals":              {kind: opaqueValue},
	"IpAddress":                 {kind: opaqueValue},
	"NotIpAddress":              {kind: opaqueValue, negated: true},
}

// compile compiles a condition. variables says whether ${...} is a variable.
func (c Condition) compile(variables bool) atom {
	a := atom{key: lower(c.Key), name: c.Key, text: c.Operator + " on " + c.Key}
	values := slices.Clone(c.Values)
	slices.Sort(values)
	a.id = strings.Join(append([]string{c.Operator, a.key}, slices.Compact(values)...), "\x00")
	if !variables {
		a.id += "\x00old" // the same text may have another meaning then
	}
	name := c.Operator
	for prefix, q := range map[string]quantity{"ForAnyValue:": anyValue, "ForAllValues:": allValues} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name, a.quantity = rest, q
		}
	}
	name, a.ifExists = strings.CutSuffix(name, "IfExists")
	op, known := operators[name]
	if !known || op.kind == null && (a.ifExists || a.quantity != single) {
		return a
	}
	a.kind, a.negated = op.kind, op.negated
	switch a.kind {
	case null:
		a.readNull(c.Values)
	case text:
		op.dialect.variables = variables
		a.readText(name, op.arn, op.dialect, c.Values)
	}
	return a
}

func (a *atom) readNull(values []string) {
	for _, v := range values {
		v = lower(v)
		if v != "true" && v != "false" {
			a.kind = opaque
			return
		}
		a.null = append(a.null, v)
	}
}

func (a *atom) readText(operator string, arn bool, d dialect, values []string) {
	for _, v := range values {
		g, ok := d.compile(v), true
		switch {
		case arn:
			g, ok = d.compileARN(v)
		case operator == "Bool":
			ok = lower(v) == "true" || lower(v) == "false"
		case d.fold:
			ok = isASCII(v)
		}
		if !ok {
			a.kind, a.globs = opaqueValue, nil
			return
		}
		a.globs = append(a.globs, g)
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}

// eval evaluates the atom for a request's context, whose keys are lower case.
func (a atom) eval(ctx map[string][]string) truth {
	values := ctx[a.key]
	switch {
	case a.kind == opaque:
		return maybe
	case a.kind == null && len(values) == 0:
		return truthOf(slices.Contains(a.null, "true"))
	case a.kind == null:
		return truthOf(slices.Contains(a.null, "false"))
	case len(values) == 0:
		return a.absent()
	case a.quantity == single && len(values) > 1:
		// AWS does not define single-valued operators for several values.
		return maybe
	}
	result := no
	if a.quantity == allValues {
		result = yes
	}
	for _, v := range values {
		if t := a.evalOne(v, ctx); a.quantity == allValues {
			result = min(result, t)
		} else {
			result = max(result, t)
		}
	}
	return result
}

// absent is the result if the key is absent.
func (a atom) absent() truth {
	switch {
	case a.ifExists || a.quantity == allValues:
		return yes
	case a.quantity == anyValue:
		return no
	default:
		return truthOf(a.negated)
	}
}

func (a atom) evalOne(value string, ctx map[string][]string) truth {
	if a.kind == opaqueValue {
		return maybe
	}
	matched := no
	for _, g := range a.globs {
		if resolved, ok := g.resolve(ctx); !ok {
			matched = max(matched, maybe)
		} else if resolved.match(value) {
			matched = yes
		}
	}
	if a.negated {
		return matched.not()
	}
	return matched
}
