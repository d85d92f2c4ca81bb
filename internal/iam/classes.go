package iam

import (
	"errors"
	"slices"
	"strings"
)

// A class is a set of texts that no pattern of a list tells apart.
type class struct {
	example string
	hits    []bool // which of the patterns match
}

// errEntangled says that patterns cut the texts into too many classes.
var errEntangled = errors.New("the patterns overlap in too many ways")

const (
	maxStates  = 1 << 14 // of the automaton of all patterns together
	maxVisits  = 1 << 18 // places looked at
	maxClasses = 1 << 12
)

// classify returns the classes into which patterns without variables cut all
// texts, each with an example: a hint that belongs to it, or else the shortest
// text. With nonEmpty the empty text does not count.
//
// Patterns without wildcards go into a trie and the others into one automaton;
// a text is where it ends in both. A text that has left the trie is told from
// others by the automaton alone, which keeps the walk linear in the literals.
func classify(globs []glob, hints []string, nonEmpty bool) ([]class, error) {
	w := newWalk(globs)
	if err := w.run(nonEmpty); err != nil {
		return nil, err
	}
	for _, hint := range hints {
		at, ok := w.classOf(hint)
		if ok && !w.hinted[at] {
			w.classes[at].example, w.hinted[at] = hint, true
		}
	}
	return w.classes, nil
}

// classOf finds the class of a text.
func (w *walk) classOf(text string) (at int, ok bool) {
	p := place{}
	for _, r := range text {
		state, err := w.dfa.next(p.state, w.dfa.symbol(r))
		if err != nil {
			return 0, false
		}
		node := -1
		if p.node >= 0 {
			node = w.trie[p.node].child(r)
		}
		p = place{state: state, node: node}
	}
	at, ok = w.byHits[bitsOf(w.hits(p))]
	return at, ok && text != ""
}

// hits returns which patterns match a text that ends at a place.
func (w *walk) hits(p place) []bool {
	hits := make([]bool, len(w.globs))
	for _, i := range w.dfa.accepts(p.state) {
		hits[i] = true
	}
	if p.node >= 0 {
		for _, i := range w.trie[p.node].ends {
			hits[i] = true
		}
	}
	return hits
}

type walk struct {
	globs   []glob
	dfa     *automaton
	trie    []trieNode
	places  []place
	offTrie map[int]bool // automaton states seen off the trie
	plain   map[int]bool // automaton states whose class without a literal is recorded

	classes []class
	hinted  map[int]bool
	byHits  map[string]int
}

type trieNode struct {
	children []branch // few: a scan is quicker than a map
	ends     []int    // patterns that are this text
}

type branch struct {
	r    rune
	node int
}

// child returns where a character leads, or -1.
func (n trieNode) child(r rune) int {
	for _, b := range n.children {
		if b.r == r {
			return b.node
		}
	}
	return -1
}

// place is an end of some text: a state of the automaton, a node of the trie or
// -1, and the way there.
type place struct {
	state, node int
	from        int
	r           rune
}

func newWalk(globs []glob) *walk {
	w := &walk{
		globs: globs, trie: []trieNode{{}}, offTrie: map[int]bool{}, plain: map[int]bool{},
		byHits: map[string]int{}, hinted: map[int]bool{},
	}
	var wild []glob
	var index []int
	for i, g := range globs {
		if text, ok := g.literal(); ok {
			w.insert(text, i)
			continue
		}
		wild, index = append(wild, g), append(index, i)
	}
	w.dfa = newAutomaton(wild, index)
	return w
}

func (w *walk) insert(text string, pattern int) {
	at := 0
	for _, r := range text {
		next := w.trie[at].child(r)
		if next < 0 {
			next = len(w.trie)
			w.trie = append(w.trie, trieNode{})
			w.trie[at].children = append(w.trie[at].children, branch{r, next})
		}
		at = next
	}
	w.trie[at].ends = append(w.trie[at].ends, pattern)
}

func (w *walk) run(nonEmpty bool) error {
	w.places = append(w.places, place{from: -1})
	for at := 0; at < len(w.places); at++ {
		if at > 0 || !nonEmpty {
			w.record(at)
		}
		if err := w.leave(at); err != nil {
			return err
		}
		if len(w.places) > maxVisits || len(w.classes) > maxClasses {
			return errEntangled
		}
	}
	return nil
}

// leave goes on from a place by every character that makes a difference.
func (w *walk) leave(at int) error {
	p := w.places[at]
	var here trieNode // off the trie nothing branches
	if p.node >= 0 {
		here = w.trie[p.node]
	}
	for _, b := range here.children {
		state, err := w.dfa.next(p.state, w.dfa.symbol(b.r))
		if err != nil {
			return err
		}
		w.places = append(w.places, place{state: state, node: b.node, from: at, r: b.r})
	}
	for _, symbol := range w.dfa.matter(p.state) {
		r := w.dfa.alphabet[symbol]
		if here.child(r) >= 0 {
			continue
		}
		if err := w.offTrieBy(at, symbol, r); err != nil {
			return err
		}
	}
	return w.offTrieBy(at, len(w.dfa.alphabet), w.dfa.other(here))
}

// offTrieBy goes on from a place by a character that leaves the trie.
func (w *walk) offTrieBy(at, symbol int, r rune) error {
	state, err := w.dfa.next(w.places[at].state, symbol)
	if err != nil {
		return err
	}
	if !w.offTrie[state] {
		w.offTrie[state] = true
		w.places = append(w.places, place{state: state, node: -1, from: at, r: r})
	}
	return nil
}

// record notes the class of the text that ends at a place.
func (w *walk) record(at int) {
	p := w.places[at]
	if p.node < 0 || len(w.trie[p.node].ends) == 0 {
		if w.plain[p.state] {
			return
		}
		w.plain[p.state] = true
	}
	hits := w.hits(p)
	key := bitsOf(hits)
	if _, ok := w.byHits[key]; ok {
		return
	}
	w.byHits[key] = len(w.classes)
	w.classes = append(w.classes, class{example: w.spell(at), hits: hits})
}

func (w *walk) spell(at int) string {
	var rs []rune
	for ; w.places[at].from >= 0; at = w.places[at].from {
		rs = append(rs, w.places[at].r)
	}
	slices.Reverse(rs)
	return string(rs)
}

func bitsOf(hits []bool) string {
	b := make([]byte, len(hits))
	for i, hit := range hits {
		if hit {
			b[i] = 1
		}
	}
	return string(b)
}

// automaton is the product of the automata of several patterns, made
// deterministic where the walk goes. A state is the set of positions in the
// patterns that a text can lead to; few are open at a time, so sets are lists.
type automaton struct {
	index    []int   // of each pattern in the list that classify was given
	flat     []token // all patterns, one after the other, each with an end
	pattern  []int   // of each position
	alphabet []rune
	symbols  map[rune]int

	sets    [][]int32 // by state, sorted
	byName  map[string]int
	steps   [][]int // by state and symbol; -1 if not yet known
	scratch []int32
}

// end is behind the last token of a pattern.
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
				a.know(t.r)
			case fold:
				a.know(t.r)
				a.know(t.r - 'a' + 'A')
			case oneSeg, manySeg:
				a.know(':')
			}
		}
	}
	a.state(a.settle(start))
	return a
}

func (a *automaton) know(r rune) {
	if _, ok := a.symbols[r]; !ok {
		a.symbols[r] = len(a.alphabet)
		a.alphabet = append(a.alphabet, r)
	}
}

// symbol is the number of a character; all that no pattern names share the last.
func (a *automaton) symbol(r rune) int {
	if s, ok := a.symbols[r]; ok {
		return s
	}
	return len(a.alphabet)
}

// other returns a character that neither the patterns nor the trie here name. It
// has no upper case, so that it can stand in a folded text.
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

// settle sorts positions, adds those behind wildcards that match nothing, and
// drops those of a pattern before the last "any text" that is reached: it
// absorbs whatever they could still match.
func (a *automaton) settle(at []int32) []int32 {
	for i := 0; i < len(at); i++ {
		if k := a.flat[at[i]].kind; k == many || k == manySeg {
			at = append(at, at[i]+1)
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	kept := at[:0]
	begin := 0 // of the pattern at hand, among those kept
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

// matter returns the symbols that may lead elsewhere from a state than a
// character that no pattern names.
func (a *automaton) matter(state int) (symbols []int) {
	note := func(r rune) {
		if s := a.symbols[r]; !slices.Contains(symbols, s) {
			symbols = append(symbols, s)
		}
	}
	for _, p := range a.sets[state] {
		switch t := a.flat[p]; t.kind {
		case char:
			note(t.r)
		case fold:
			note(t.r)
			note(t.r - 'a' + 'A')
		case oneSeg, manySeg:
			note(':')
		}
	}
	return symbols
}

// next is where a symbol leads.
func (a *automaton) next(state, symbol int) (int, error) {
	if s := a.steps[state][symbol]; s >= 0 {
		return s, nil
	}
	if len(a.sets) > maxStates {
		return 0, errEntangled
	}
	r := rune(-1) // a character that no pattern names
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
	to = a.settle(to)
	a.scratch = to
	s := a.state(to)
	a.steps[state][symbol] = s
	return s, nil
}

// accepts returns the patterns that match a text which ends in a state.
func (a *automaton) accepts(state int) (hits []int) {
	for _, p := range a.sets[state] {
		if a.flat[p].kind == end {
			hits = append(hits, a.index[a.pattern[p]])
		}
	}
	return hits
}

// samples makes texts that people recognise out of patterns: wildcards become a
// word.
func samples(globs []glob) (texts []string) {
	for _, g := range globs {
		var b strings.Builder
		for _, t := range g.tokens {
			switch t.kind {
			case char, fold:
				b.WriteRune(t.r)
			case one, oneSeg:
				b.WriteByte('x')
			default:
				b.WriteString("example")
			}
		}
		texts = append(texts, b.String())
	}
	return texts
}
