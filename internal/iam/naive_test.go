package iam

import "strings"

// What follows is a second evaluator, written to be obviously right rather than
// fast, from AWS's description alone. It shares nothing with the package but the
// policy types, and covers only what the generated policies use.

func naiveGlob(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	switch pattern[0] {
	case '*':
		for i := range len(text) + 1 {
			if naiveGlob(pattern[1:], text[i:]) {
				return true
			}
		}
		return false
	case '?':
		return text != "" && naiveGlob(pattern[1:], text[1:])
	default:
		return text != "" && text[0] == pattern[0] && naiveGlob(pattern[1:], text[1:])
	}
}

func naiveSelects(s Selector, text string, folded bool) bool {
	for _, p := range s.Patterns {
		if folded {
			p, text = strings.ToLower(p), strings.ToLower(text)
		}
		if naiveGlob(p, text) {
			return !s.Not
		}
	}
	return s.Not
}

func naiveCondition(c Condition, ctx map[string][]string) bool {
	values := ctx[strings.ToLower(c.Key)]
	op := c.Operator
	matchesAny := func(v string) bool {
		for _, p := range c.Values {
			if strings.Contains(op, "Like") && naiveGlob(p, v) || strings.Contains(op, "Equals") && p == v {
				return true
			}
		}
		return false
	}
	switch {
	case op == "Null":
		for _, v := range c.Values {
			if (v == "true") == (len(values) == 0) {
				return true
			}
		}
		return false
	case strings.HasPrefix(op, "ForAllValues:"):
		for _, v := range values {
			if matchesAny(v) == strings.Contains(op, "Not") {
				return false
			}
		}
		return true
	case strings.HasPrefix(op, "ForAnyValue:"):
		for _, v := range values {
			if matchesAny(v) != strings.Contains(op, "Not") {
				return true
			}
		}
		return false
	case len(values) == 0:
		return strings.HasSuffix(op, "IfExists") || strings.Contains(op, "Not")
	default:
		return matchesAny(values[0]) != strings.Contains(op, "Not")
	}
}

func naiveAllows(policies []Policy, r Request) bool {
	ctx := map[string][]string{}
	for k, v := range r.Context {
		ctx[strings.ToLower(k)] = v
	}
	allowed := false
	for _, p := range policies {
		for _, s := range p.Statements {
			applies := naiveSelects(s.Action, r.Action, true) && naiveSelects(s.Resource, r.Resource, false)
			for _, c := range s.Conditions {
				applies = applies && naiveCondition(c, ctx)
			}
			if applies && s.Effect == Deny {
				return false
			}
			allowed = allowed || applies
		}
	}
	return allowed
}

// world is every request of a small world: each action on each resource in each
// context. Keys of contexts are in lower case.
type world struct {
	actions, resources []string
	contexts           []map[string][]string
}

// request returns a request by its place in the tables of [world.allowed].
func (w world) request(i int) Request {
	c, i := i%len(w.contexts), i/len(w.contexts)
	return Request{Action: w.actions[i/len(w.resources)], Resource: w.resources[i%len(w.resources)], Context: w.contexts[c]}
}

// allowed is naiveAllows of every request, with each part of a statement held
// against each action, resource and context once.
func (w world) allowed(policies []Policy) []bool {
	out := make([]bool, len(w.actions)*len(w.resources)*len(w.contexts))
	denied := make([]bool, len(out))
	for _, p := range policies {
		for _, s := range p.Statements {
			verdicts := out
			if s.Effect == Deny {
				verdicts = denied
			}
			w.apply(s, verdicts)
		}
	}
	for i := range out {
		out[i] = out[i] && !denied[i]
	}
	return out
}

// apply sets the verdict of each request that a statement applies to.
func (w world) apply(s Statement, verdicts []bool) {
	holds := make([]bool, len(w.contexts))
	for i, ctx := range w.contexts {
		holds[i] = true
		for _, c := range s.Conditions {
			holds[i] = holds[i] && naiveCondition(c, ctx)
		}
	}
	selected := make([]bool, len(w.resources))
	for i, r := range w.resources {
		selected[i] = naiveSelects(s.Resource, r, false)
	}
	for a, action := range w.actions {
		if !naiveSelects(s.Action, action, true) {
			continue
		}
		for r, is := range selected {
			if is {
				at := (a*len(w.resources) + r) * len(w.contexts)
				for c, hold := range holds {
					verdicts[at+c] = verdicts[at+c] || hold
				}
			}
		}
	}
}
