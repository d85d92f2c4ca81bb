package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// MaxPolicySize is the largest document that [Parse] accepts, in bytes. AWS stores none above 10 KiB.
const MaxPolicySize = 1 << 20

// SyntaxError is a fault in a policy document: what, where and what to do.
type SyntaxError struct {
	File         string // as passed to Parse
	Line, Column int    // from 1, in bytes
	Msg          string
}

// Error returns "file:line:column: message".
func (e *SyntaxError) Error() string {
	return e.File + ":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column) + ": " + e.Msg
}

// Parse parses an identity policy document. It accepts a single statement or value in place of a list, numbers and
// booleans as condition values, and the output of "aws iam get-role-policy" around the document. It refuses what AWS
// refuses, and what would hide something: unknown or repeated elements, empty lists, principals.
//
// The error is a [*SyntaxError]; file is only for messages.
func Parse(file string, data []byte) (p Policy, err error) {
	r := &reader{file: file, data: data}
	defer func() {
		if fault := (*SyntaxError)(nil); err != nil && !errors.As(err, &fault) {
			err = r.at(r.last(), "%v", err)
		}
	}()
	if len(data) > MaxPolicySize {
		return p, r.at(0, "document has %d bytes, over the limit of %d", len(data), MaxPolicySize)
	}
	r.dec = json.NewDecoder(bytes.NewReader(data))
	r.dec.UseNumber()
	if p, err = r.policy(true); err != nil {
		return p, err
	}
	after := r.next()
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return p, r.at(after, "something follows the document; keep one document a file")
	}
	return p, nil
}

// reader reads the tokens of a document, so that faults have positions and repeated members are noticed.
type reader struct {
	file string
	data []byte
	dec  *json.Decoder
}

// last returns the offset after the last token.
func (r *reader) last() int {
	if r.dec == nil {
		return 0
	}
	return int(r.dec.InputOffset())
}

// next returns the offset of the next token.
func (r *reader) next() int {
	at := r.last()
	for at < len(r.data) && strings.IndexByte(" \t\r\n:,", r.data[at]) >= 0 {
		at++
	}
	return at
}

func (r *reader) at(offset int, format string, args ...any) *SyntaxError {
	before := r.data[:max(0, min(offset, len(r.data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return &SyntaxError{File: r.file, Line: line, Column: column, Msg: fmt.Sprintf(format, args...)}
}

func (r *reader) token() (json.Token, error) {
	t, err := r.dec.Token()
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, r.at(int(syntax.Offset)-1, "not JSON: %v", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, r.at(len(r.data), "document ends too early")
	}
	return t, err
}

// object reads an object and calls member for each member, which must read the value. Names must be unique; fold says
// that letter case does not distinguish them.
func (r *reader) object(what string, fold bool, member func(name string, at int) error) error {
	start := r.next()
	t, err := r.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return r.at(start, "%s is no object", what)
	}
	seen := map[string]bool{}
	for r.dec.More() {
		at := r.next()
		t, err := r.token()
		if err != nil {
			return err
		}
		name, _ := t.(string) // the decoder allows nothing else
		unique := name
		if fold {
			unique = lower(name)
		}
		if seen[unique] {
			return r.at(at, "%s has %q twice; keep one", what, name)
		}
		seen[unique] = true
		if err := member(name, at); err != nil {
			return err
		}
	}
	_, err = r.token()
	return err
}

func (r *reader) policy(outermost bool) (p Policy, err error) {
	statements, wrapped := false, false
	start := r.next()
	err = r.object("policy", false, func(name string, at int) error {
		switch name {
		case "Version":
			p.Version, err = r.text("Version")
			if err == nil && p.Version != Version2012 && p.Version != "2008-10-17" {
				err = r.at(at, "Version is %q; AWS knows 2012-10-17 and 2008-10-17", p.Version)
			}
			return err
		case "Id":
			p.ID, err = r.text("Id")
			return err
		case "Statement":
			statements = true
			p.Statements, err = r.statements()
			return err
		case "PolicyDocument":
			if !outermost {
				break
			}
			wrapped = true
			p, err = r.policy(false)
			return err
		case "RoleName", "PolicyName":
			if !outermost {
				break
			}
			_, err = r.text(name)
			return err
		}
		return r.at(at, "policy has the element %q; it takes Version, Id and Statement", name)
	})
	if err == nil && !statements && !wrapped {
		err = r.at(start, "policy has no Statement")
	}
	return p, err
}

// statements reads one statement or a list of them.
func (r *reader) statements() ([]Statement, error) {
	at := r.next()
	if at < len(r.data) && r.data[at] == '{' {
		s, err := r.statement()
		return []Statement{s}, err
	}
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('[') {
		return nil, r.at(at, "Statement is neither an object nor a list of objects")
	}
	var all []Statement
	for r.dec.More() {
		s, err := r.statement()
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	_, err = r.token()
	return all, err
}

func (r *reader) statement() (s Statement, err error) {
	start := r.next()
	err = r.object("statement", false, func(name string, at int) error {
		switch name {
		case "Sid":
			s.Sid, err = r.text(name)
		case "Effect":
			var text string
			text, err = r.text(name)
			if s.Effect = Effect(text); err == nil && s.Effect != Allow && s.Effect != Deny {
				err = r.at(at, "Effect is %q; it is Allow or Deny", text)
			}
		case "Action", "NotAction":
			err = r.selector(&s.Action, name, at)
		case "Resource", "NotResource":
			err = r.selector(&s.Resource, name, at)
		case "Condition":
			s.Conditions, err = r.conditions()
		case "Principal", "NotPrincipal":
			err = r.at(at, "statement has %q: this is a resource or trust policy; give the policy that is attached to the role", name)
		default:
			err = r.at(at, "statement has the element %q; it takes Sid, Effect, Action or NotAction, Resource or NotResource, Condition", name)
		}
		return err
	})
	switch {
	case err != nil:
	case s.Effect == "":
		err = r.at(start, "statement has no Effect")
	case s.Action.Patterns == nil:
		err = r.at(start, "statement has neither Action nor NotAction")
	case s.Resource.Patterns == nil:
		err = r.at(start, "statement has neither Resource nor NotResource")
	}
	return s, err
}

func (r *reader) selector(s *Selector, name string, at int) (err error) {
	if s.Patterns != nil {
		return r.at(at, "statement has both %s and its opposite; keep one", name)
	}
	s.Not = strings.HasPrefix(name, "Not")
	s.Patterns, err = r.values(name, false)
	return err
}

func (r *reader) conditions() (all []Condition, err error) {
	err = r.object("Condition", false, func(operator string, _ int) error {
		return r.object(operator, true, func(key string, _ int) error {
			values, err := r.values(operator+" of "+key, true)
			all = append(all, Condition{Operator: operator, Key: key, Values: values})
			return err
		})
	})
	return all, err
}

func (r *reader) text(what string) (string, error) {
	at := r.next()
	t, err := r.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", r.at(at, "%s is no text", what)
	}
	return s, nil
}

// values reads one value or a non-empty list. Scalars that are not text are accepted only where AWS accepts them.
func (r *reader) values(what string, scalars bool) ([]string, error) {
	at := r.next()
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('[') {
		s, err := r.value(what, t, at, scalars)
		return []string{s}, err
	}
	var all []string
	for r.dec.More() {
		at := r.next()
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		s, err := r.value(what, t, at, scalars)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, r.at(at, "%s is an empty list; AWS refuses it", what)
	}
	_, err = r.token()
	return all, err
}

func (r *reader) value(what string, t json.Token, at int, scalars bool) (string, error) {
	switch v := t.(type) {
	case string:
		if v == "" && !scalars {
			return "", r.at(at, "%s is an empty text", what)
		}
		return v, nil
	case bool:
		if scalars {
			return strconv.FormatBool(v), nil
		}
	case json.Number:
		if scalars {
			return v.String(), nil
		}
	}
	return "", r.at(at, "%s is neither a text nor a list of texts", what)
}
