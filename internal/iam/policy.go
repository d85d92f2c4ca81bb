package iam

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// Version2012 is the policy language in which ${...} is a variable. In the older one, the default of documents
// without a version, it is plain text.
const Version2012 = "2012-10-17"

// Policy is an identity policy document.
type Policy struct {
	Version    string
	ID         string
	Statements []Statement
}

// Effect is the effect of a statement on matching requests.
type Effect string

// The effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Statement is one rule of a policy.
type Statement struct {
	Sid        string
	Effect     Effect
	Action     Selector
	Resource   Selector
	Conditions []Condition // all must hold
}

// Selector names actions or resources by patterns with * and ?.
type Selector struct {
	Not      bool // NotAction or NotResource: everything but these
	Patterns []string
}

// Condition is one operator on one key of the request's context.
type Condition struct {
	Operator string // as written, such as ForAnyValue:StringLike
	Key      string // as written; keys are case-insensitive
	Values   []string
}

// Request is a request to AWS.
type Request struct {
	Action   string `json:"action"`   // such as s3:GetObject; case-insensitive
	Resource string `json:"resource"` // an ARN, or * for actions without one
	// Context has the condition keys that are present. A key without values counts as absent. Keys are
	// case-insensitive.
	Context map[string][]string `json:"context,omitempty"`
}

// String returns the request on one line.
func (r Request) String() string {
	var b strings.Builder
	b.WriteString(r.Action + " on " + r.Resource)
	if len(r.Context) == 0 {
		return b.String()
	}
	keys := make([]string, 0, len(r.Context))
	for k := range r.Context {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		sep := ", "
		if i == 0 {
			sep = " with "
		}
		b.WriteString(sep + k + "=" + strings.Join(r.Context[k], "|"))
	}
	return b.String()
}

// MarshalJSON writes the document as AWS does: a list of one is the value itself, and keys are in the usual order.
func (p Policy) MarshalJSON() ([]byte, error) {
	doc := object{{"Version", p.Version}}
	if p.ID != "" {
		doc = append(doc, member{"Id", p.ID})
	}
	statements := make([]object, len(p.Statements))
	for i, s := range p.Statements {
		statements[i] = s.object()
	}
	return json.Marshal(append(doc, member{"Statement", statements}))
}

func (s Statement) object() object {
	var o object
	if s.Sid != "" {
		o = append(o, member{"Sid", s.Sid})
	}
	o = append(o,
		member{"Effect", s.Effect},
		member{s.Action.name("Action"), oneOrList(s.Action.Patterns)},
		member{s.Resource.name("Resource"), oneOrList(s.Resource.Patterns)})
	if len(s.Conditions) == 0 {
		return o
	}
	var operators object
	for _, c := range s.Conditions {
		i := slices.IndexFunc(operators, func(m member) bool { return m.name == c.Operator })
		if i < 0 {
			i = len(operators)
			operators = append(operators, member{c.Operator, object{}})
		}
		operators[i].value = append(operators[i].value.(object), member{c.Key, oneOrList(c.Values)})
	}
	return append(o, member{"Condition", operators})
}

func (s Selector) name(what string) string {
	if s.Not {
		return "Not" + what
	}
	return what
}

func oneOrList(values []string) any {
	if len(values) == 1 {
		return values[0]
	}
	return values
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
