package iam

import (
	"slices"
	"strings"
)

// truth is what can be said of a condition or a request.
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

// An atom is a condition, compiled: a predicate over the values of one key.
type atom struct {
	id       string // equal for conditions that say the same
	text     string // for people
	key      string // lower case
	name     string // the key as written
	quantity quantity
	kind     atomKind
	negated  bool // of the text operators: none of the values may match
	ifExists bool
	globs    []glob   // of text
	null     []string // of null: its values, lower case
}

type quantity uint8

const (
	single quantity = iota
	anyValue
	allValues
)

type atomKind uint8

const (
	// opaque: nothing is known about the operator.
	opaque atomKind = iota
	// opaqueValue: what it says of a value is not known, but an absent key is
	// decided as for every operator of its kind.
	opaqueValue
	text
	null
)

// operators are those that AWS has, without prefix and IfExists. A negated one
// holds where its key is absent.
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

// compile reads a condition. variables says whether ${...} is one.
func (c Condition) compile(variables bool) atom {
	a := atom{key: lower(c.Key), name: c.Key, text: c.Operator + " on " + c.Key}
	values := slices.Clone(c.Values)
	slices.Sort(values)
	a.id = strings.Join(append([]string{c.Operator, a.key}, slices.Compact(values)...), "\x00")
	if !variables {
		a.id += "\x00old" // the same text may mean something else there
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

// eval asks the atom about a request's context, whose keys are lower case.
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
		// AWS leaves open what an operator for one value does with several.
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

// absent is what the atom says where its key is absent.
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
