package iam

import (
	"strings"
	"unicode/utf8"
)

// A glob is a compiled pattern: what a text must look like.
type glob struct {
	tokens []token
	text   string      // as written
	refs   []reference // of the variables
	// segments says that a wildcard stops at colons.
	segments bool
	// variable says that the pattern names a key of the request's context, so
	// that what it matches depends on the request.
	variable bool
}

type token struct {
	kind tokenKind
	r    rune // of char and fold; of a variable, its number among the references
}

// reference is a variable: a key of the request's context.
type reference struct {
	key string // lower case
	or  string // default
	has bool   // there is a default
}

type tokenKind uint8

const (
	char     tokenKind = iota
	fold               // an ASCII letter in either case
	one                // any character
	many               // any text
	oneSeg             // any character but a colon
	manySeg            // any text without a colon
	variable           // the value of a context key
)

// dialect says how a pattern is written.
type dialect struct {
	wild      bool // * and ? are wildcards
	fold      bool // letter case does not matter
	variables bool // ${...} is a variable
}

// lower folds ASCII letters only: AWS's names have no others, and what Unicode
// folds elsewhere must not make two patterns equal.
func lower(s string) string {
	return strings.Map(lowerRune, s)
}

func lowerRune(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// compile reads a pattern.
func (d dialect) compile(text string) glob {
	g := glob{text: text, tokens: make([]token, 0, len(text))}
	for rest := text; rest != ""; {
		if d.variables && strings.HasPrefix(rest, "${") {
			if end := strings.IndexByte(rest, '}'); end > 0 {
				g.refer(rest[2:end])
				rest = rest[end+1:]
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case d.wild && r == '*':
			if n := len(g.tokens); n == 0 || g.tokens[n-1].kind != many {
				g.add(token{kind: many})
			}
		case d.wild && r == '?':
			g.add(token{kind: one})
		default:
			g.add(d.literal(r))
		}
		rest = rest[size:]
	}
	return g
}

func (g *glob) add(t token) {
	g.variable = g.variable || t.kind == variable
	g.segments = g.segments || t.kind == manySeg
	g.tokens = append(g.tokens, t)
}

func (d dialect) literal(r rune) token {
	if l := lowerRune(r); d.fold && ('a' <= l && l <= 'z') {
		return token{kind: fold, r: l}
	}
	return token{kind: char, r: r}
}

// refer adds what stands between ${ and }: an escaped *, ? or $, or a context
// key with perhaps a default.
func (g *glob) refer(name string) {
	switch name {
	case "*", "?", "$":
		g.add(token{kind: char, r: rune(name[0])})
		return
	}
	key, or, has := strings.Cut(name, ",")
	g.add(token{kind: variable, r: rune(len(g.refs))})
	g.refs = append(g.refs, reference{key: lower(strings.TrimSpace(key)), or: strings.Trim(strings.TrimSpace(or), "'"), has: has})
}

// compileARN reads a pattern whose six parts are compared one by one, as ArnLike
// does. Patterns of fewer parts are not understood.
func (d dialect) compileARN(text string) (g glob, ok bool) {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) < 6 || d.variables && strings.Contains(text, "${") {
		return glob{}, false
	}
	g.text = text
	for i, part := range parts {
		for _, t := range (dialect{wild: true}).compile(part).tokens {
			if i < 5 && t.kind == one {
				t.kind = oneSeg
			}
			if i < 5 && t.kind == many {
				t.kind = manySeg
			}
			g.add(t)
		}
		if i < 5 {
			g.add(token{kind: char, r: ':'})
		}
	}
	return g, true
}

// resolve puts the values of a request's context in place of the variables. It
// is not ok if one is missing or has several values.
func (g glob) resolve(ctx map[string][]string) (glob, bool) {
	if !g.variable {
		return g, true
	}
	resolved := glob{text: g.text}
	for _, t := range g.tokens {
		if t.kind != variable {
			resolved.add(t)
			continue
		}
		ref := g.refs[t.r]
		value := ref.or
		switch values := ctx[ref.key]; {
		case len(values) == 1:
			value = values[0]
		case len(values) > 1, !ref.has:
			return glob{}, false
		}
		for _, r := range value {
			resolved.add(token{kind: char, r: r})
		}
	}
	return resolved, true
}

// widest takes every variable for any text.
func (g glob) widest() glob {
	if !g.variable {
		return g
	}
	w := glob{text: g.text}
	for _, t := range g.tokens {
		if t.kind == variable {
			t = token{kind: many}
		}
		w.add(t)
	}
	return w
}

// literal returns the one text that the pattern matches, if it is one.
func (g glob) literal() (string, bool) {
	var b strings.Builder
	for _, t := range g.tokens {
		if t.kind != char {
			return "", false
		}
		b.WriteRune(t.r)
	}
	return b.String(), true
}

// takes reports whether a token other than many and manySeg matches a character.
func (t token) takes(r rune) bool {
	switch t.kind {
	case char:
		return r == t.r
	case fold:
		return lowerRune(r) == t.r
	case oneSeg, manySeg:
		return r != ':'
	default:
		return true
	}
}

// match reports whether a text matches. The pattern has no variables.
func (g glob) match(text string) bool {
	if g.segments {
		return g.matchSets(text)
	}
	// The last "any text" takes as little as it can, and more whenever what
	// follows it does not fit.
	at, star, from := 0, -1, ""
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case at < len(g.tokens) && g.tokens[at].kind == many:
			star, from = at, rest
			at++
		case at < len(g.tokens) && g.tokens[at].takes(r):
			rest = rest[size:]
			at++
		case star >= 0:
			_, size := utf8.DecodeRuneInString(from)
			from = from[size:]
			at, rest = star+1, from
		default:
			return false
		}
	}
	for at < len(g.tokens) && g.tokens[at].kind == many {
		at++
	}
	return at == len(g.tokens)
}

// matchSets is match for wildcards that cannot take any text, of which more than
// the last may have to give way: it follows all ways to match at once.
func (g glob) matchSets(text string) bool {
	// at holds the positions in the pattern that the text so far can lead to.
	at := make([]bool, len(g.tokens)+1)
	next := make([]bool, len(at))
	at[0] = true
	g.skip(at)
	for _, r := range text {
		clear(next)
		for i, t := range g.tokens {
			if !at[i] || !t.takes(r) {
				continue
			}
			if t.kind == many || t.kind == manySeg {
				next[i] = true
			} else {
				next[i+1] = true
			}
		}
		at, next = next, at
		g.skip(at)
	}
	return at[len(g.tokens)]
}

// skip adds the positions behind wildcards that match nothing.
func (g glob) skip(at []bool) {
	for i, t := range g.tokens {
		if at[i] && (t.kind == many || t.kind == manySeg) {
			at[i+1] = true
		}
	}
}
