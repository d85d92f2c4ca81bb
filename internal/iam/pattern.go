package iam

import (
	"strings"
	"unicode/utf8"
)

// A glob is a compiled pattern.
type glob struct {
	tokens []token
	text   string      // as written
	refs   []reference // the variables
	// segments says that wildcards stop at colons.
	segments bool
	// variable says that the pattern has variables, so that what it matches depends on the request.
	variable bool
}

type token struct {
	kind tokenKind
	r    rune // of char and fold; for a variable, its index in refs
}

// reference is a variable: a key of the request's context.
type reference struct {
	key string // lower case
	or  string // default
	has bool   // whether there is a default
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

// dialect is the syntax of a pattern.
type dialect struct {
	wild      bool // * and ? are wildcards
	fold      bool // letter case does not matter
	variables bool // ${...} is a variable
}

// lower folds ASCII letters only: AWS's names have no others, and Unicode folding must not make two patterns equal.
func lower(s string) string {
	return strings.Map(lowerRune, s)
}

func lowerRune(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// compile compiles a pattern.
func (d dialect) compile(text string) glob {
	g := glob{text: text, tokens: make([]token, 0, len(text))}
	for rest := text; rest != ""; {
		if d.variables && strings.HasPrefix(rest, "${") {
			if end := strings.IndexByte(rest, '}'); end > 0 {
				g.addVariable(rest[2:end])
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

// addVariable adds the text between ${ and }: an escaped *, ? or $, or a context key, optionally with a default.
func (g *glob) addVariable(name string) {
	switch name {
	case "*", "?", "$":
		g.add(token{kind: char, r: rune(name[0])})
		return
	}
	key, or, has := strings.Cut(name, ",")
	g.add(token{kind: variable, r: rune(len(g.refs))})
	g.refs = append(g.refs, reference{key: lower(strings.TrimSpace(key)), or: strings.Trim(strings.TrimSpace(or), "'"), has: has})
}

// compileARN compiles a pattern whose six parts are compared one by one, as ArnLike does. It does not support
// patterns with fewer parts.
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

// resolve replaces variables by the values in a request's context. ok is false if one is missing or has several
// values.
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

// widest replaces every variable by "any text".
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

// literal returns the one text that the pattern matches, if there is only one.
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

// match reports whether text matches. The pattern must have no variables.
func (g glob) match(text string) bool {
	if g.segments {
		return g.matchSets(text)
	}
	// The last "any text" takes as little as possible, and more if the rest does not match.
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

// matchSets is match for wildcards that cannot take any text, where backtracking to the last one is not enough: it
// follows all possible matches at once.
func (g glob) matchSets(text string) bool {
	// at holds the positions in the pattern that the text so far can lead to.
	at := make([]bool, len(g.tokens)+1)
	next := make([]bool, len(at))
	at[0] = true
	g.addEmptyMatches(at)
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
		g.addEmptyMatches(at)
	}
	return at[len(g.tokens)]
}

// addEmptyMatches adds the positions after wildcards that match nothing.
func (g glob) addEmptyMatches(at []bool) {
	for i, t := range g.tokens {
		if at[i] && (t.kind == many || t.kind == manySeg) {
			at[i+1] = true
		}
	}
}
