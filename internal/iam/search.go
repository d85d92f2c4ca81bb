package iam

import (
	"encoding/binary"
	"errors"
	"slices"
)

const (
	maxTries    = 1 << 20 // contexts tried
	maxUnknowns = 12      // unknown facts of which all combinations are tried
)

var errTooMany = errors.New("the conditions combine in too many ways")

// search looks for a counter-example among the classes. Wherever one may exist but cannot be shown, it records a
// doubt.
func (p *prover) search() (*Request, error) {
	for _, a := range p.actions {
		if !p.anyNew(a.in) {
			continue
		}
		for _, r := range p.resources {
			rest := p.residual(a, r)
			key := rest.key()
			if !rest.allows() || p.solved[key] {
				continue
			}
			p.solved[key] = true
			rest.request = Request{Action: a.example, Resource: r.example}
			if counter, err := rest.solve(); counter != nil || err != nil {
				return counter, err
			}
		}
	}
	return nil, nil
}

// anyNew reports whether an allowing statement of the new side is among those.
func (p *prover) anyNew(in []bool) bool {
	for i, s := range p.statements {
		if in[i] && s.newer && s.allow {
			return true
		}
	}
	return false
}

// A residual is the problem left once action and resource are fixed: the conditions of the statements that match
// both.
type residual struct {
	p       *prover
	live    []live
	keys    []int // keys in the conditions
	request Request

	chosen []int // point by key; -1 while open
}

type live struct {
	sideStatement
	resource membership
}

func (p *prover) residual(a actionClass, r resourceClass) *residual {
	rest := &residual{p: p, chosen: slices.Repeat([]int{-1}, len(p.keys))}
	for i, s := range p.statements {
		m := r.in[i]
		if a.in[i] && (!m.fixed || m.sure != m.not) {
			rest.live = append(rest.live, live{sideStatement: s, resource: m})
		}
	}
	for _, l := range rest.live {
		for _, c := range l.conds {
			if k := p.atomIndexes[c].key; !slices.Contains(rest.keys, k) {
				rest.keys = append(rest.keys, k)
			}
		}
	}
	return rest
}

// key identifies the problem.
func (r *residual) key() string {
	var b []byte
	add := func(indexes []int) {
		b = binary.AppendUvarint(b, uint64(len(indexes)))
		for _, i := range indexes {
			b = binary.AppendUvarint(b, uint64(i))
		}
	}
	for _, l := range r.live {
		b = append(b, flag(l.newer), flag(l.allow), flag(l.resource.fixed), flag(l.resource.not))
		add(l.resource.anyOf)
		add(l.conds)
	}
	return string(b)
}

func flag(b bool) byte {
	if b {
		return '1'
	}
	return '0'
}

// allows reports whether the new side could allow anything.
func (r *residual) allows() bool {
	return slices.ContainsFunc(r.live, func(l live) bool { return l.newer && l.allow })
}

// solve tries every choice of values for the keys, pruning branches without a counter-example.
func (r *residual) solve() (*Request, error) { return r.choose(0) }

func (r *residual) choose(depth int) (*Request, error) {
	if r.p.visits++; r.p.visits > maxTries {
		return nil, errTooMany
	}
	t := r.violation(nil)
	switch {
	case t == no:
		return nil, nil
	case t == yes || depth == len(r.keys):
		return r.checkCandidate()
	}
	k := r.keys[depth]
	defer func() { r.chosen[k] = -1 }()
	for i := range r.p.keys[k].points {
		r.chosen[k] = i
		if counter, err := r.choose(depth + 1); counter != nil || err != nil {
			return counter, err
		}
	}
	return nil, nil
}

// checkCandidate makes a request from the choices and verifies it with the evaluator. If that cannot decide, it
// records a doubt, unless no combination of the unknown facts makes a counter-example.
func (r *residual) checkCandidate() (*Request, error) {
	request := r.request
	request.Context = map[string][]string{}
	for _, k := range r.keys {
		if i := r.chosen[k]; i >= 0 && len(r.p.keys[k].points[i].values) > 0 {
			request.Context[r.p.keys[k].name] = r.p.keys[k].points[i].values
		}
	}
	nowAllowed, wasAllowed := evaluate(r.p.newer, request), evaluate(r.p.older, request)
	if nowAllowed == Allowed && (wasAllowed == Denied || wasAllowed == ExplicitlyDenied) {
		return &request, nil
	}
	open := r.unknowns()
	if r.violation(nil) != yes && !r.possible(open) {
		return nil, nil
	}
	if len(open) == 0 {
		r.doubt("whether " + request.String() + " is allowed")
	}
	for _, u := range open {
		r.doubt(r.p.names[u])
	}
	return nil, nil
}

const maxDoubts = 3

func (r *residual) doubt(what string) {
	if len(r.p.doubts) < maxDoubts && !slices.Contains(r.p.doubts, what) {
		r.p.doubts = append(r.p.doubts, what)
	}
}

// possible reports whether some combination of the unknown facts makes the choices a counter-example. Too many
// combinations to try count as possible.
func (r *residual) possible(open []int) bool {
	if len(open) > maxUnknowns {
		return true
	}
	for mask := range 1 << len(open) {
		facts := make(map[int]truth, len(open))
		for i, u := range open {
			facts[u] = truthOf(mask>>i&1 == 1)
		}
		if r.violation(facts) != no {
			return true
		}
	}
	return false
}

// unknowns returns the unknown facts that are relevant to the choices.
func (r *residual) unknowns() (open []int) {
	note := func(u int) {
		if !slices.Contains(open, u) {
			open = append(open, u)
		}
	}
	for _, l := range r.live {
		if !l.resource.fixed {
			for _, u := range l.resource.anyOf {
				note(u)
			}
		}
		for _, c := range l.conds {
			if r.known(c) == maybe {
				note(r.p.unknown("atom\x00"+r.p.atoms[c].id, r.p.atoms[c].text))
			}
		}
	}
	return open
}

// violation reports whether the new side allows and the old side does not, given the keys chosen and the facts.
func (r *residual) violation(facts map[int]truth) truth {
	var allow, deny [2]truth
	for _, l := range r.live {
		t := r.matches(l, facts)
		side := 0
		if l.newer {
			side = 1
		}
		if l.allow {
			allow[side] = max(allow[side], t)
		} else {
			deny[side] = max(deny[side], t)
		}
	}
	nowAllowed := min(allow[1], deny[1].not())
	wasAllowed := min(allow[0], deny[0].not())
	return min(nowAllowed, wasAllowed.not())
}

func (r *residual) matches(l live, facts map[int]truth) truth {
	t := yes
	if !l.resource.fixed {
		t = no
		for _, u := range l.resource.anyOf {
			fact, ok := facts[u]
			if !ok {
				fact = maybe
			}
			t = max(t, fact)
		}
		if l.resource.not {
			t = t.not()
		}
	}
	for _, c := range l.conds {
		known := r.known(c)
		if known == maybe && facts != nil {
			if fact, ok := facts[r.p.unknown("atom\x00"+r.p.atoms[c].id, r.p.atoms[c].text)]; ok {
				known = fact
			}
		}
		t = min(t, known)
	}
	return t
}

// known returns the value of an atom for the choices: maybe if its key is not chosen, or the operator unknown.
func (r *residual) known(c int) truth {
	h := r.p.atomIndexes[c]
	if r.chosen[h.key] < 0 {
		return maybe
	}
	return r.p.keys[h.key].points[r.chosen[h.key]].truths[h.at]
}
