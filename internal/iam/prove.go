package iam

import (
	"fmt"
	"slices"
	"strings"
)

// Verdict is the answer of a proof.
type Verdict string

// The verdicts.
const (
	Subset       Verdict = "subset"
	NotSubset    Verdict = "not a subset"
	CannotDecide Verdict = "cannot decide"
)

// Proof is whether one set of policies allows nothing that another does not.
type Proof struct {
	Verdict Verdict `json:"verdict"`
	// Counter is a request that the new policies allow and the old ones do not;
	// nil unless the verdict is NotSubset.
	Counter *Request `json:"counterExample,omitempty"`
	// Why says what stands in the way of an answer; empty unless the verdict is
	// CannotDecide.
	Why string `json:"why,omitempty"`
}

// Prove decides whether every request that the new policies allow is allowed by
// the old ones too, over all actions, resources and contexts.
//
// Actions, resources and the values of each key fall into finitely many classes
// that no pattern of either side tells apart, so that finitely many requests
// stand for all. A condition that is not understood may hold or not, but the
// same condition means the same on both sides.
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
	newer, older []statement // compiled, for checking counter-examples
	statements   []sided     // both, one after the other
	atoms        []atom      // distinct
	homes        []home      // by atom
	keys         []keyDomain
	actions      []actionClass
	resources    []resourceClass

	unknowns map[string]int // opaque facts by id
	names    []string       // of the unknowns, for people

	settled map[string]bool // residual problems without a counter-example
	visits  int
	doubts  []string
}

// sided is a statement of one of the sides.
type sided struct {
	statement
	newer bool
	conds []int // atoms, by index
}

// actionClass stands for all actions that the same statements match.
type actionClass struct {
	example string
	in      []bool // by statement
}

// resourceClass stands for all resources that the same patterns match.
type resourceClass struct {
	example string
	in      []membership // by statement
}

// membership is whether a statement matches a resource: for certain, or if one
// of some unknown facts holds, namely that a pattern with variables matches it.
type membership struct {
	sure  bool
	anyOf []int // unknowns, any of which would do
	not   bool  // the whole is negated
	fixed bool  // no unknowns
}

// keyDomain is a key of the context with every value, or absence, that makes a
// difference.
type keyDomain struct {
	key    string // lower case
	name   string // as a policy spells it
	atoms  []int
	points []point
}

// home is where an atom stands among the keys.
type home struct {
	key int // in the prover's keys
	at  int // in the key's atoms
}

// point is one possibility for a key.
type point struct {
	values []string // none: absent
	truths []truth  // by atom of the domain
}

func newProver(newer, older []Policy) *prover {
	p := &prover{
		newer: compilePolicies(newer), older: compilePolicies(older),
		unknowns: map[string]int{}, settled: map[string]bool{},
	}
	byID := map[string]int{}
	add := func(all []statement, isNew bool) {
		for _, s := range all {
			side := sided{statement: s, newer: isNew}
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
	left := uncovered(p.newer, p.older)
	add(relevant(left, left), true)
	add(relevant(p.older, left), false)
	return p
}

// relevant drops actions that the newer statements do not allow whatever the
// resource, and statements that have none left: no counter-example can have them.
func relevant(statements, newer []statement) []statement {
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
			// An exception stays: without it the others would seem to match.
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

// classify finds the classes of every dimension.
func (p *prover) classify() error {
	if err := p.classifyActions(); err != nil {
		return fmt.Errorf("actions: %w", err)
	}
	if err := p.classifyResources(); err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	return p.classifyKeys()
}

// pool numbers distinct patterns.
type pool struct {
	globs []glob
	index map[string]int
}

func (p *pool) add(g glob) int {
	if p.index == nil {
		p.index = map[string]int{}
	}
	at, ok := p.index[g.text]
	if !ok {
		at = len(p.globs)
		p.index[g.text] = at
		p.globs = append(p.globs, g.widest())
	}
	return at
}

func (p *prover) classifyActions() error {
	var patterns pool
	members := make([][]int, len(p.statements))
	for i, s := range p.statements {
		for _, g := range s.action.globs {
			members[i] = append(members[i], patterns.add(g))
		}
	}
	spelling := map[string]string{}
	var hints []string
	hint := func(action string) {
		if folded := lower(action); spelling[folded] == "" {
			spelling[folded] = action
			hints = append(hints, folded)
		}
	}
	for _, g := range patterns.globs {
		if !strings.ContainsAny(g.text, "*?") {
			hint(g.text)
		}
	}
	for _, a := range knownActions {
		hint(a)
	}
	classes, err := classify(patterns.globs, hints, true)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, c := range classes {
		a := actionClass{example: c.example, in: make([]bool, len(p.statements))}
		if name, ok := spelling[c.example]; ok {
			a.example = name
		}
		for i, s := range p.statements {
			hit := slices.ContainsFunc(members[i], func(g int) bool { return c.hits[g] })
			a.in[i] = hit != s.action.not
		}
		if key := bitsOf(a.in); !seen[key] {
			seen[key] = true
			p.actions = append(p.actions, a)
		}
	}
	return nil
}

func (p *prover) classifyResources() error {
	var patterns pool
	members := make([][]int, len(p.statements))
	variables := make([]bool, 0)
	for i, s := range p.statements {
		for _, g := range s.resource.globs {
			at := patterns.add(taggedGlob(g))
			members[i] = append(members[i], at)
			if at == len(variables) {
				variables = append(variables, g.variable)
			}
		}
	}
	classes, err := classify(patterns.globs, append([]string{"*"}, samples(patterns.globs)...), true)
	if err != nil {
		return err
	}
	for _, c := range classes {
		r := resourceClass{example: c.example, in: make([]membership, len(p.statements))}
		for i, s := range p.statements {
			m := membership{not: s.resource.not, fixed: true}
			for _, at := range members[i] {
				switch {
				case c.hits[at] && !variables[at]:
					m.sure = true
				case c.hits[at]:
					m.anyOf = append(m.anyOf, p.unknown("resource\x00"+patterns.globs[at].text, "the variable in resource "+p.plain(patterns.globs[at])))
				}
			}
			m.fixed = m.sure || len(m.anyOf) == 0
			r.in[i] = m
		}
		p.resources = append(p.resources, r)
	}
	return nil
}

// taggedGlob keeps a pattern with variables apart from the same text where
// ${...} is no variable.
func taggedGlob(g glob) glob {
	if g.variable {
		g.text = "\x00" + g.text
	}
	return g
}

func (p *prover) plain(g glob) string { return strings.TrimPrefix(g.text, "\x00") }

// maxSets bounds the sets of values of one key that are looked at.
const maxSets = 1 << 13

func (p *prover) classifyKeys() error {
	at := map[string]int{}
	for i, a := range p.atoms {
		k, ok := at[a.key]
		if !ok {
			k = len(p.keys)
			at[a.key] = k
			p.keys = append(p.keys, keyDomain{key: a.key, name: a.name})
		}
		p.homes = append(p.homes, home{key: k, at: len(p.keys[k].atoms)})
		p.keys[k].atoms = append(p.keys[k].atoms, i)
	}
	for i := range p.keys {
		if err := p.classifyKey(&p.keys[i]); err != nil {
			return fmt.Errorf("values of %s: %w", p.keys[i].key, err)
		}
	}
	return nil
}

func (p *prover) classifyKey(k *keyDomain) error {
	var globs []glob
	sets := 0
	for _, i := range k.atoms {
		if p.atoms[i].quantity != single {
			sets++
		}
		for _, g := range p.atoms[i].globs {
			globs = append(globs, g.widest())
		}
	}
	classes, err := classify(globs, samples(globs), false)
	if err != nil {
		return err
	}
	candidates := [][]string{nil}
	for _, c := range classes {
		candidates = append(candidates, []string{c.example})
	}
	if sets > 0 {
		if candidates = growSets(candidates, classes, max(2, sets)); len(candidates) > maxSets {
			return errEntangled
		}
	}
	seen := map[string]bool{}
	for _, values := range candidates {
		pt := point{values: values}
		var key strings.Builder
		for _, i := range k.atoms {
			t := p.atoms[i].eval(map[string][]string{k.key: values})
			pt.truths = append(pt.truths, t)
			key.WriteByte('0' + byte(t))
		}
		if !seen[key.String()] {
			seen[key.String()] = true
			k.points = append(k.points, pt)
		}
	}
	return nil
}

// growSets adds the sets of two to most values. A set says no more to the atoms
// than one witness for each of them: a value that fulfils "any", or one that
// fails "all". Sets with more values than atoms are therefore stood for by
// smaller ones; two values are kept apart from one for operators that want one.
func growSets(candidates [][]string, classes []class, most int) [][]string {
	type open struct {
		values []string
		next   int // class
	}
	var queue []open
	for i, c := range classes {
		queue = append(queue, open{[]string{c.example}, i + 1})
	}
	for len(queue) > 0 && len(candidates) <= maxSets {
		at := queue[0]
		queue = queue[1:]
		if len(at.values) == most {
			continue
		}
		for i := at.next; i < len(classes); i++ {
			values := append(slices.Clone(at.values), classes[i].example)
			candidates = append(candidates, values)
			queue = append(queue, open{values, i + 1})
		}
	}
	return candidates
}
