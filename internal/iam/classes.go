package iam

import (
	"errors"
	"slices"
	"strings"
)

// A class is a set of texts that match the same patterns.
type class struct {
	example string
	hits    []bool // which of the patterns match
}

// errTooManyClasses says that patterns divide the texts into too many classes.
var errTooManyClasses = errors.New("the patterns overlap in too many ways")

const (
	maxStates  = 1 << 14 // of the automaton
	maxPlaces  = 1 << 18 // places visited
	maxClasses = 1 << 12
)

// classify returns the classes into which patterns without variables divide all texts, each with an example: a hint
// in it, or else the shortest text. With nonEmpty the empty text is left out.
//
// Patterns without wildcards form a trie and the others one automaton; a text is where it ends in both. Texts that
// have left the trie are distinguished by the automaton alone, which keeps the walk linear in the number of literals.
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

// classOf returns the class of a text.
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
	globs    []glob
	dfa      *automaton
	trie     []trieNode
	places   []place
	offTrie  map[int]bool // automaton states visited off the trie
	recorded map[int]bool // automaton states whose class, without literals, is recorded

	classes []class
	hinted  map[int]bool
	byHits  map[string]int
}

type trieNode struct {
	children []branch // few, so a scan is faster than a map
	ends     []int    // patterns equal to this text
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

// place is where a text can end: a state of the automaton, a node of the trie or -1, and the step that led there.
type place struct {
	state, node int
	from        int
	r           rune
}

func newWalk(globs []glob) *walk {
	w := &walk{
		globs: globs, trie: []trieNode{{}}, offTrie: map[int]bool{}, recorded: map[int]bool{},
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
		if err := w.expand(at); err != nil {
			return err
		}
		if len(w.places) > maxPlaces || len(w.classes) > maxClasses {
			return errTooManyClasses
		}
	}
	return nil
}

// expand adds the places after a place, for every character that makes a difference.
func (w *walk) expand(at int) error {
	p := w.places[at]
	var here trieNode // empty if off the trie
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
	for _, symbol := range w.dfa.relevantSymbols(p.state) {
		r := w.dfa.alphabet[symbol]
		if here.child(r) >= 0 {
			continue
		}
		if err := w.leaveTrie(at, symbol, r); err != nil {
			return err
		}
	}
	return w.leaveTrie(at, len(w.dfa.alphabet), w.dfa.other(here))
}

// leaveTrie adds the place after a place for a character that leaves the trie.
func (w *walk) leaveTrie(at, symbol int, r rune) error {
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

// record adds the class of the texts that end at a place.
func (w *walk) record(at int) {
	p := w.places[at]
	if p.node < 0 || len(w.trie[p.node].ends) == 0 {
		if w.recorded[p.state] {
			return
		}
		w.recorded[p.state] = true
	}
	hits := w.hits(p)
	key := bitsOf(hits)
	if _, ok := w.byHits[key]; ok {
		return
	}
	w.byHits[key] = len(w.classes)
	w.classes = append(w.classes, class{example: w.textAt(at), hits: hits})
}

func (w *walk) textAt(at int) string {
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

// exampleTexts makes readable texts from patterns: wildcards become a word.
func exampleTexts(globs []glob) (texts []string) {
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
