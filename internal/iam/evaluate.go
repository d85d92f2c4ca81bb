package iam

// Decision is the result for a request.
type Decision string

// The decisions. Implicit and explicit denial both refuse the request.
const (
	Allowed          Decision = "allowed"
	Denied           Decision = "denied"
	ExplicitlyDenied Decision = "explicitly denied"
	// Undecided: it depends on a condition or variable that cannot be evaluated here.
	Undecided Decision = "undecided"
)

// Evaluate decides a request by all policies of a role.
func Evaluate(policies []Policy, r Request) Decision {
	return evaluate(compilePolicies(policies), r)
}

func evaluate(statements []statement, r Request) Decision {
	ctx := make(map[string][]string, len(r.Context))
	for k, v := range r.Context {
		ctx[lower(k)] = append(ctx[lower(k)], v...)
	}
	allow, deny := no, no
	for _, s := range statements {
		t := min(s.action.eval(lower(r.Action), ctx), s.resource.eval(r.Resource, ctx))
		for _, a := range s.atoms {
			t = min(t, a.eval(ctx))
		}
		if s.allow {
			allow = max(allow, t)
		} else {
			deny = max(deny, t)
		}
	}
	switch {
	case deny == yes:
		return ExplicitlyDenied
	case allow == no:
		return Denied
	case deny == maybe || allow == maybe:
		return Undecided
	default:
		return Allowed
	}
}

// A statement is a [Statement], compiled.
type statement struct {
	allow    bool
	action   matcher
	resource matcher
	atoms    []atom
}

// matcher is a [Selector], compiled.
type matcher struct {
	not   bool
	globs []glob
}

func compilePolicies(policies []Policy) []statement {
	var all []statement
	for _, p := range policies {
		for _, s := range p.Statements {
			all = append(all, s.compile(p.Version == Version2012))
		}
	}
	return all
}

func (s Statement) compile(variables bool) statement {
	c := statement{allow: s.Effect == Allow, action: matcher{not: s.Action.Not}, resource: matcher{not: s.Resource.Not}}
	for _, p := range s.Action.Patterns {
		if p == "*:*" {
			p = "*" // AWS's other spelling
		}
		g := dialect{wild: true}.compile(lower(p))
		g.text = p
		c.action.globs = append(c.action.globs, g)
	}
	for _, p := range s.Resource.Patterns {
		c.resource.globs = append(c.resource.globs, dialect{wild: true, variables: variables}.compile(p))
	}
	for _, cond := range s.Conditions {
		c.atoms = append(c.atoms, cond.compile(variables))
	}
	return c
}

func (m matcher) eval(text string, ctx map[string][]string) truth {
	t := no
	for _, g := range m.globs {
		switch resolved, ok := g.resolve(ctx); {
		case ok && resolved.match(text):
			t = yes
		case !ok && g.widest().match(text):
			t = max(t, maybe)
		}
	}
	if m.not {
		return t.not()
	}
	return t
}
