package iam

import "slices"

// dropCovered drops statements that one statement of the older side covers: they alone allow no counter-example. This
// removes most of what two releases of a role have in common, before any classes are computed. A denial on the older
// side may take back what covers, so then nothing is dropped.
func dropCovered(newer, older []statement) []statement {
	if slices.ContainsFunc(older, func(s statement) bool { return !s.allow }) {
		return newer
	}
	return slices.DeleteFunc(slices.Clone(newer), func(s statement) bool {
		return s.allow && slices.ContainsFunc(older, func(o statement) bool { return o.covers(s) })
	})
}

// covers reports whether a statement matches every request that another matches. It compares single patterns, so that
// false proves nothing.
func (s statement) covers(other statement) bool {
	for _, a := range s.atoms {
		if !slices.ContainsFunc(other.atoms, func(b atom) bool { return a.id == b.id }) {
			return false
		}
	}
	return s.action.covers(other.action) && s.resource.covers(other.resource)
}

func (m matcher) covers(other matcher) bool {
	if m.not != other.not {
		return false
	}
	if m.not { // the one with fewer exceptions matches more
		m, other = other, m
	}
	for _, g := range other.globs {
		if !slices.ContainsFunc(m.globs, func(h glob) bool { return h.contains(g) }) {
			return false
		}
	}
	return true
}

// contains reports whether a pattern matches every text that another matches. It matches the other's tokens like
// letters; only "any text" takes "any text" and variables.
func (g glob) contains(other glob) bool {
	if g.variable {
		return other.variable && g.text == other.text
	}
	if g.segments || other.segments {
		return false
	}
	at, star, from := 0, -1, 0
	for i := 0; i < len(other.tokens); {
		switch {
		case at < len(g.tokens) && g.tokens[at].kind == many:
			star, from = at, i
			at++
		case at < len(g.tokens) && g.tokens[at].takesAll(other.tokens[i]):
			at++
			i++
		case star >= 0:
			from++
			at, i = star+1, from
		default:
			return false
		}
	}
	for at < len(g.tokens) && g.tokens[at].kind == many {
		at++
	}
	return at == len(g.tokens)
}

// takesAll reports whether a token for one character takes every character that another token stands for.
func (t token) takesAll(other token) bool {
	switch other.kind {
	case many, manySeg, variable:
		return false
	case char:
		return t.takes(other.r)
	case fold:
		return t.kind == one || t.kind == fold && t.r == other.r
	default:
		return t.kind == one
	}
}
