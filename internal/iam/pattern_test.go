package iam

import (
	"testing"

	"pgregory.net/rapid"
)

// TestMatchingIsWhatThePatternSays holds the two ways to match, one step at a
// time and all ways at once, against plain recursion.
func TestMatchingIsWhatThePatternSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab:*?]{0,8}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[ab:]{0,10}`).Draw(t, "text")
		g := dialect{wild: true}.compile(pattern)
		want := naiveGlob(pattern, text)
		if got := g.match(text); got != want {
			t.Errorf("match = %t; want %t", got, want)
		}
		if got := g.matchSets(text); got != want {
			t.Errorf("matchSets = %t; want %t", got, want)
		}
	})
}

func TestAPatternThatContainsAnotherMatchesWhatItMatches(t *testing.T) {
	var contained int
	rapid.Check(t, func(t *rapid.T) {
		wide := rapid.StringMatching(`[ab*?]{0,6}`).Draw(t, "wide")
		narrow := rapid.StringMatching(`[ab*?]{0,6}`).Draw(t, "narrow")
		text := rapid.StringMatching(`[abz]{0,8}`).Draw(t, "text")
		w, n := dialect{wild: true}.compile(wide), dialect{wild: true}.compile(narrow)
		if !w.contains(n) {
			return
		}
		contained++
		if naiveGlob(narrow, text) && !naiveGlob(wide, text) {
			t.Errorf("%q contains %q, but does not match %q", wide, narrow, text)
		}
	})
	if contained == 0 {
		t.Error("no pattern contained another; the test shows nothing")
	}
}

func TestContainsKnowsLetterCaseAndVariables(t *testing.T) {
	folded, exact := dialect{fold: true}, dialect{wild: true, variables: true}
	tests := []struct {
		name         string
		wide, narrow glob
		want         bool
	}{
		{"either case contains one", folded.compile("aB"), exact.compile("AB"), true},
		{"one case does not contain either", exact.compile("ab"), folded.compile("ab"), false},
		{"any text contains a variable", exact.compile("a*"), exact.compile("a${aws:username}"), true},
		{"any character does not", exact.compile("a?"), exact.compile("a${aws:username}"), false},
		{"a variable contains itself", exact.compile("a${k}*"), exact.compile("a${k}*"), true},
		{"a variable contains no other", exact.compile("a${k}"), exact.compile("a${l}"), false},
		{"a variable is not the same text in the old language", exact.compile("a${k}"), dialect{wild: true}.compile("a${k}"), false},
	}
	for _, tt := range tests {
		if got := tt.wide.contains(tt.narrow); got != tt.want {
			t.Errorf("%s: contains = %t; want %t", tt.name, got, tt.want)
		}
	}
}
