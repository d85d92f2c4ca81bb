package iam

import (
	"fmt"
	"slices"
	"strings"
)

// classify computes the classes of all dimensions.
func (p *prover) classify() error {
	if err := p.classifyActions(); err != nil {
		return fmt.Errorf("actions: %w", err)
	}
	if err := p.classifyResources(); err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	return p.classifyKeys()
}

// patternSet numbers distinct patterns.
type patternSet struct {
	globs []glob
	index map[string]int
}

func (p *patternSet) add(g glob) int {
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
	var patterns patternSet
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
	var patterns patternSet
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
	classes, err := classify(patterns.globs, append([]string{"*"}, exampleTexts(patterns.globs)...), true)
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
					m.anyOf = append(m.anyOf, p.unknown("resource\x00"+patterns.globs[at].text, "the variable in resource "+p.plainText(patterns.globs[at])))
				}
			}
			m.fixed = m.sure || len(m.anyOf) == 0
			r.in[i] = m
		}
		p.resources = append(p.resources, r)
	}
	return nil
}

// taggedGlob distinguishes a pattern with variables from the same text in which ${...} is no variable.
func taggedGlob(g glob) glob {
	if g.variable {
		g.text = "\x00" + g.text
	}
	return g
}

func (p *prover) plainText(g glob) string { return strings.TrimPrefix(g.text, "\x00") }

// maxSets bounds the sets of values of one key that are tried.
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
		p.atomIndexes = append(p.atomIndexes, atomIndex{key: k, at: len(p.keys[k].atoms)})
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
	classes, err := classify(globs, exampleTexts(globs), false)
	if err != nil {
		return err
	}
	candidates := [][]string{nil}
	for _, c := range classes {
		candidates = append(candidates, []string{c.example})
	}
	if sets > 0 {
		if candidates = growSets(candidates, classes, max(2, sets)); len(candidates) > maxSets {
			return errTooManyClasses
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

// growSets adds the sets of two to limit values. For the atoms, one witness each is enough: a value that satisfies
// "any", or one that fails "all". So larger sets than there are atoms are represented by smaller ones; sets of two
// are needed besides single values for operators that want one value.
func growSets(candidates [][]string, classes []class, limit int) [][]string {
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
		if len(at.values) == limit {
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
