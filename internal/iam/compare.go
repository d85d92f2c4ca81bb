package iam

import (
	"fmt"
	"slices"
	"strings"
)

// Standing is how something that a role holds relates to what it needs.
type Standing string

// The standings. Unclear means that a condition decides which is not modelled.
const (
	Needed  Standing = "needed"
	Wider   Standing = "wider than needed"
	Excess  Standing = "not needed"
	Unclear Standing = "unclear"
)

// Holding is one thing that a role holds.
type Holding struct {
	What     string   `json:"what"` // an action or pattern of actions; a role on a resource; the name of a secret
	Standing Standing `json:"standing"`
	Caller   string   `json:"caller,omitempty"`
	Why      string   `json:"why"`
	// Example is a request that is allowed and not needed.
	Example *Request `json:"example,omitempty"`
}

// Comparison sets what a role holds against what it needs.
type Comparison struct {
	Holdings []Holding `json:"holdings"` // sorted by What
	// Missing are needs that are not held, whole or in part.
	Missing []Need `json:"missing"`
}

// Clean reports whether everything held is needed and everything needed held.
func (c Comparison) Clean() bool {
	return len(c.Missing) == 0 && !slices.ContainsFunc(c.Holdings, func(h Holding) bool { return h.Standing != Needed })
}

// Compare sets policies that a role holds together against its needs.
func Compare(held []Policy, needs []Need) Comparison {
	needed := []Policy{PolicyOf(needs)}
	var c Comparison
	for _, action := range actionsOf(held) {
		c.Holdings = append(c.Holdings, holding(action, held, needs, needed))
	}
	for _, n := range needs {
		var lacking []string
		for _, a := range n.Actions {
			one := n
			one.Actions = []string{a}
			if lacks(one, held) {
				lacking = append(lacking, a)
			}
		}
		if n.Actions = lacking; len(lacking) > 0 {
			c.Missing = append(c.Missing, n)
		}
	}
	return c
}

// lacks reports whether policies do not grant a need: the whole of it, or if it
// is open, any part.
func lacks(n Need, held []Policy) bool {
	need := PolicyOf([]Need{n})
	if Prove([]Policy{need}, held).Verdict == Subset {
		return false
	}
	if !n.Open {
		return true
	}
	// They have something in common if denying what is held takes from the need.
	less := Policy{Version: need.Version, Statements: need.Statements}
	for _, p := range held {
		for _, s := range p.Statements {
			if s.Effect == Allow {
				s.Effect = Deny
				less.Statements = append(slices.Clip(less.Statements), s)
			}
		}
	}
	return Prove([]Policy{need}, []Policy{less}).Verdict != NotSubset
}

// actionsOf returns the action patterns that policies allow, sorted, without
// regard to letter case. What a NotAction allows is called by its opposite.
func actionsOf(policies []Policy) []string {
	var all []string
	for _, p := range policies {
		for _, s := range p.Statements {
			if s.Effect == Allow && s.Action.Not {
				all = append(all, notAction(s.Action))
			} else if s.Effect == Allow {
				all = append(all, s.Action.Patterns...)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return strings.Compare(lower(a), lower(b)) })
	return slices.CompactFunc(all, func(a, b string) bool { return lower(a) == lower(b) })
}

func notAction(s Selector) string { return "all but " + strings.Join(s.Patterns, ", ") }

// only returns what policies allow of one of their action patterns.
func only(action string, policies []Policy) []Policy {
	out := make([]Policy, len(policies))
	for i, p := range policies {
		out[i] = Policy{Version: p.Version}
		for _, s := range p.Statements {
			switch {
			case s.Effect == Deny: // still takes away
			case s.Action.Not:
				if notAction(s.Action) != action {
					continue
				}
			case slices.ContainsFunc(s.Action.Patterns, func(p string) bool { return lower(p) == lower(action) }):
				s.Action.Patterns = []string{action}
			default:
				continue
			}
			out[i].Statements = append(out[i].Statements, s)
		}
	}
	return out
}

func holding(action string, held []Policy, needs []Need, needed []Policy) Holding {
	proof := Prove(only(action, held), needed)
	h := Holding{What: action, Example: proof.Counter}
	need, overlaps := overlapping(action, needs)
	switch {
	case proof.Verdict == CannotDecide:
		h.Standing, h.Why = Unclear, proof.Why
	case proof.Verdict == Subset:
		h.Standing, h.Caller, h.Why = Needed, need.Caller, need.Why
		if !overlaps {
			h.Why = "allows nothing, because a denial takes it away"
		}
	case overlaps:
		h.Standing, h.Caller = Wider, need.Caller
		h.Why = strings.Join(need.Actions, ", ") + " on " + strings.Join(need.Resources, ", ") + conditional(need.Conditions) + " is enough: " + need.Why
	default:
		h.Standing, h.Why = Excess, "nothing on the node's boot path or of its running programs asks it"
		if why, ok := leftover[lower(action)]; ok {
			h.Why = why
		}
	}
	return h
}

// conditional says conditions in a few words.
func conditional(all []Condition) string {
	var parts []string
	for _, c := range all {
		parts = append(parts, fmt.Sprintf("%s %s %s", c.Operator, c.Key, strings.Join(c.Values, "|")))
	}
	if len(parts) == 0 {
		return ""
	}
	return " with " + strings.Join(parts, " and ")
}

// overlapping returns the part of the needs that a pattern of actions covers: of
// the first need that it touches.
func overlapping(action string, needs []Need) (Need, bool) {
	held := dialect{wild: true}.compile(lower(action))
	for _, n := range needs {
		var touched []string
		for _, a := range n.Actions {
			if lower(a) == lower(action) || held.match(lower(a)) || (dialect{wild: true}).compile(lower(a)).match(lower(action)) {
				touched = append(touched, a)
			}
		}
		if len(touched) > 0 {
			n.Actions = touched
			return n, true
		}
	}
	return Need{}, false
}

// Difference is what changes from one set of policies to another.
type Difference struct {
	// Narrower is whether the second allows nothing new, Wider whether it allows
	// all that the first does.
	Narrower Proof `json:"narrower"`
	Wider    Proof `json:"wider"`
	// Lost and Gained are action patterns of the first and of the second whose
	// every request the other does not allow as well.
	Lost   []Holding `json:"lost"`
	Gained []Holding `json:"gained"`
}

// Diff compares two sets of policies by what they allow, not by how they are written.
func Diff(first, second []Policy) Difference {
	return Difference{
		Narrower: Prove(second, first),
		Wider:    Prove(first, second),
		Lost:     beyond(first, second),
		Gained:   beyond(second, first),
	}
}

func beyond(of, other []Policy) (all []Holding) {
	for _, action := range actionsOf(of) {
		proof := Prove(only(action, of), other)
		switch proof.Verdict {
		case NotSubset:
			all = append(all, Holding{What: action, Standing: Excess, Why: "such as " + proof.Counter.String(), Example: proof.Counter})
		case CannotDecide:
			all = append(all, Holding{What: action, Standing: Unclear, Why: proof.Why})
		}
	}
	return all
}
