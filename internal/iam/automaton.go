package iam

import (
	"slices"
)

// automaton is the product of the automata of several patterns, made deterministic lazily, as far as it is walked. A
// state is the set of pattern positions that a text can lead to; such sets are small, so they are lists.
type automaton struct {
	index    []int   // index of each pattern in classify's list
	flat     []token // the tokens of all patterns, each followed by an end
	pattern  []int   // pattern of each position
	alphabet []rune
	symbols  map[rune]int

	sets    [][]int32 // set of each state, sorted
	byName  map[string]int
	steps   [][]int // by state and symbol; -1 if not computed yet
	scratch []int32
}

// end follows the last token of a pattern.
const end tokenKind = 0xff

func newAutomaton(globs []glob, index []int) *automaton {
	a := &automaton{index: index, symbols: map[rune]int{}, byName: map[string]int{}}
	var start []int32
	for i, g := range globs {
		start = append(start, int32(len(a.flat)))
		for _, t := range append(slices.Clone(g.tokens), token{kind: end}) {
			a.flat = append(a.flat, t)
			a.pattern = append(a.pattern, i)
			switch t.kind {
			case char:
				a.addSymbol(t.r)
			case fold:
				a.addSymbol(t.r)
				a.addSymbol(t.r - 'a' + 'A')
			case oneSeg, manySeg:
				a.addSymbol(':')
			}
		}
	}
	a.state(a.closure(start))
	return a
}

func (a *automaton) addSymbol(r rune) {
	if _, ok := a.symbols[r]; !ok {
		a.symbols[r] = len(a.alphabet)
		a.alphabet = append(a.alphabet, r)
	}
}

// symbol returns the number of a character; all characters that no pattern has share the last number.
func (a *automaton) symbol(r rune) int {
	if s, ok := a.symbols[r]; ok {
		return s
	}
	return len(a.alphabet)
}

// other returns a character that neither the patterns nor the trie node has. It is not an upper-case letter, so that
// it can be part of a folded text.
func (a *automaton) other(here trieNode) rune {
	const first = "xyzabcdefghijklmnopqrstuvw0123456789-_"
	free := func(r rune) bool { return a.symbol(r) == len(a.alphabet) && here.child(r) < 0 }
	for _, r := range first {
		if free(r) {
			return r
		}
	}
	r := rune(0x4e00)
	for !free(r) {
		r++
	}
	return r
}

// closure sorts positions and adds those after wildcards that match nothing. It drops the positions of a pattern
// before the last "any text" reached, which absorbs whatever they could match.
func (a *automaton) closure(at []int32) []int32 {
	for i := 0; i < len(at); i++ {
		if k := a.flat[at[i]].kind; k == many || k == manySeg {
			at = append(at, at[i]+1)
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	kept := at[:0]
	begin := 0 // start of the current pattern's positions in kept
	for _, p := range at {
		if len(kept) > begin && a.pattern[kept[begin]] != a.pattern[p] {
			begin = len(kept)
		}
		if a.flat[p].kind == many {
			kept = kept[:begin]
		}
		kept = append(kept, p)
	}
	return kept
}

func (a *automaton) state(set []int32) int {
	name := make([]byte, 0, 4*len(set))
	for _, p := range set {
		name = append(name, byte(p), byte(p>>8), byte(p>>16), byte(p>>24))
	}
	if s, ok := a.byName[string(name)]; ok {
		return s
	}
	s := len(a.sets)
	a.byName[string(name)] = s
	a.sets = append(a.sets, slices.Clone(set))
	a.steps = append(a.steps, slices.Repeat([]int{-1}, len(a.alphabet)+1))
	return s
}

// relevantSymbols returns the symbols that may lead from a state to another one than a character that no pattern has.
func (a *automaton) relevantSymbols(state int) (symbols []int) {
	add := func(r rune) {
		if s := a.symbols[r]; !slices.Contains(symbols, s) {
			symbols = append(symbols, s)
		}
	}
	for _, p := range a.sets[state] {
		switch t := a.flat[p]; t.kind {
		case char:
			add(t.r)
		case fold:
			add(t.r)
			add(t.r - 'a' + 'A')
		case oneSeg, manySeg:
			add(':')
		}
	}
	return symbols
}

// next returns the state that a symbol leads to.
func (a *automaton) next(state, symbol int) (int, error) {
	if s := a.steps[state][symbol]; s >= 0 {
		return s, nil
	}
	if len(a.sets) > maxStates {
		return 0, errTooManyClasses
	}
	r := rune(-1) // a character that no pattern has
	if symbol < len(a.alphabet) {
		r = a.alphabet[symbol]
	}
	to := a.scratch[:0]
	for _, p := range a.sets[state] {
		switch t := a.flat[p]; {
		case t.kind == end || !t.takes(r):
		case t.kind == many || t.kind == manySeg:
			to = append(to, p)
		default:
			to = append(to, p+1)
		}
	}
	to = a.closure(to)
	a.scratch = to
	s := a.state(to)
	a.steps[state][symbol] = s
	return s, nil
}

// accepts returns the patterns that match a text ending in a state.
func (a *automaton) accepts(state int) (hits []int) {
	for _, p := range a.sets[state] {
		if a.flat[p].kind == end {
			hits = append(hits, a.index[a.pattern[p]])
		}
	}
	return hits
}
