package iam

import (
	"slices"
	"strings"
)

// Verdict is the result of a proof.
type Verdict string

// The verdicts.
const (
	Subset       Verdict = "subset"
	NotSubset    Verdict = "not a subset"
	CannotDecide Verdict = "cannot decide"
)

// Proof is the result of comparing two sets of policies.
type Proof struct {
	Verdict Verdict `json:"verdict"`
	// Counter is a request that the new policies allow and the old ones do not;
	// nil unless the verdict is NotSubset.
	Counter *Request `json:"counterExample,omitempty"`
	// Why says why there is no answer; empty unless the verdict is CannotDecide.
	Why string `json:"why,omitempty"`
}

// Prove decides whether every request that the new policies allow is allowed by the old ones too, over all actions,
// resources and contexts.
//
// Actions, resources and the values of each key fall into finitely many classes that no pattern of either side
// distinguishes, so finitely many requests represent all. An unknown condition may hold or not, but the same
// condition means the same on both sides.
func Prove(newer, older []Policy) Proof {
	p := newProver(newer, older)
	if err := p.classify(); err != nil {
		return Proof{Verdict: CannotDecide, Why: err.Error()}
	}
	counter, err := p.search()
	switch {
	case err != nil:
		return Proof{Verdict: CannotDecide, Why: err.Error()}
	case counter != nil:
		return Proof{Verdict: NotSubset, Counter: counter}
	case len(p.doubts) > 0:
		return Proof{Verdict: CannotDecide, Why: "the answer depends on " + strings.Join(p.doubts, ", ")}
	}
	return Proof{Verdict: Subset}
}

type prover struct {
	newer, older []statement     // compiled, for checking counter-examples
	statements   []sideStatement // of both sides
	atoms        []atom          // distinct
	atomIndexes  []atomIndex     // by atom
	keys         []keyDomain
	actions      []actionClass
	resources    []resourceClass

	unknowns map[string]int // opaque facts by id
	names    []string       // descriptions of the unknowns

	solved map[string]bool // keys of residual problems without a counter-example
	visits int
	doubts []string
}

// sideStatement is a statement of one of the sides.
type sideStatement struct {
	statement
	newer bool
	conds []int // indexes of atoms
}

// actionClass represents all actions that the same statements match.
type actionClass struct {
	example string
	in      []bool // by statement
}

// resourceClass represents all resources that the same patterns match.
type resourceClass struct {
	example string
	in      []membership // by statement
}

// membership says whether a statement matches a resource: certainly, or if one of some unknown facts holds, namely
// that a pattern with variables matches it.
type membership struct {
	sure  bool
	anyOf []int // unknowns, any of which is enough
	not   bool  // the whole is negated
	fixed bool  // no unknowns
}

// keyDomain is a key of the context with every value, or absence, that makes a difference.
type keyDomain struct {
	key    string // lower case
	name   string // as spelled in a policy
	atoms  []int
	points []point
}

// atomIndex locates an atom among the keys.
type atomIndex struct {
	key int // in the prover's keys
	at  int // in the key's atoms
}

// point is one possibility for a key.
type point struct {
	values []string // none: absent
	truths []truth  // of each atom of the domain
}

func newProver(newer, older []Policy) *prover {
	p := &prover{
		newer: compilePolicies(newer), older: compilePolicies(older),
		unknowns: map[string]int{}, solved: map[string]bool{},
	}
	byID := map[string]int{}
	add := func(all []statement, isNew bool) {
		for _, s := range all {
			side := sideStatement{statement: s, newer: isNew}
			for _, a := range s.atoms {
				at, ok := byID[a.id]
				if !ok {
					at = len(p.atoms)
					byID[a.id] = at
					p.atoms = append(p.atoms, a)
				}
				side.conds = append(side.conds, at)
			}
			p.statements = append(p.statements, side)
		}
	}
	left := dropCovered(p.newer, p.older)
	add(dropIrrelevant(left, left), true)
	add(dropIrrelevant(p.older, left), false)
	return p
}

// dropIrrelevant drops actions that the newer statements allow on no resource, and statements without any action
// left: they are part of no counter-example.
func dropIrrelevant(statements, newer []statement) []statement {
	literals := map[string]bool{}
	var wide []matcher
	for _, s := range newer {
		if !s.allow {
			continue
		}
		var wild []glob
		for _, g := range s.action.globs {
			if action, ok := g.literal(); ok && !s.action.not {
				literals[action] = true
			} else {
				wild = append(wild, g)
			}
		}
		if len(wild) > 0 || s.action.not {
			wide = append(wide, matcher{not: s.action.not, globs: wild})
		}
	}
	allowable := func(action string) bool {
		return literals[action] || slices.ContainsFunc(wide, func(m matcher) bool { return m.eval(action, nil) == yes })
	}
	var kept []statement
	for _, s := range statements {
		var globs []glob
		for _, g := range s.action.globs {
			// Exceptions stay: without them the others would seem to match.
			if action, ok := g.literal(); !ok || s.action.not || allowable(action) {
				globs = append(globs, g)
			}
		}
		s.action.globs = globs
		if len(globs) > 0 || s.action.not {
			kept = append(kept, s)
		}
	}
	return kept
}

func (p *prover) unknown(id, name string) int {
	at, ok := p.unknowns[id]
	if !ok {
		at = len(p.names)
		p.unknowns[id] = at
		p.names = append(p.names, name)
	}
	return at
}
