package iam

import (
	"fmt"
	"slices"
	"strings"
)

// Standing relates what a role has to what it needs.
type Standing string

// The standings. Unclear means that it depends on a condition that is not modelled.
const (
	Needed  Standing = "needed"
	Wider   Standing = "wider than needed"
	Excess  Standing = "not needed"
	Unclear Standing = "unclear"
)

// Holding is one thing that a role has.
type Holding struct {
	What     string   `json:"what"` // an action or pattern of actions; a role on a resource; the name of a secret
	Standing Standing `json:"standing"`
	Caller   string   `json:"caller,omitempty"`
	Why      string   `json:"why"`
	// Example is a request that is allowed but not needed.
	Example *Request `json:"example,omitempty"`
}

// Comparison compares what a role has with what it needs.
type Comparison struct {
	Holdings []Holding `json:"holdings"` // sorted by What
	// Missing are the needs that are not met in full.
	Missing []Need `json:"missing"`
}

// Clean reports whether everything that the role has is needed, and nothing is missing.
func (c Comparison) Clean() bool {
	return len(c.Missing) == 0 && !slices.ContainsFunc(c.Holdings, func(h Holding) bool { return h.Standing != Needed })
}

// Compare compares the policies of a role with its needs.
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

// lacks reports whether policies do not grant a need: all of it, or any part if it is open.
func lacks(n Need, held []Policy) bool {
	need := PolicyOf([]Need{n})
	if Prove([]Policy{need}, held).Verdict == Subset {
		return false
	}
	if !n.Open {
		return true
	}
	// They overlap if denying what the role has takes away from the need.
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

// actionsOf returns the action patterns that policies allow, sorted, without regard to letter case. A NotAction is
// named by what it excludes.
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

// restrictTo returns the part of policies that is about one of their action patterns.
func restrictTo(action string, policies []Policy) []Policy {
	out := make([]Policy, len(policies))
	for i, p := range policies {
		out[i] = Policy{Version: p.Version}
		for _, s := range p.Statements {
			switch {
			case s.Effect == Deny: // denials stay
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
	proof := Prove(restrictTo(action, held), needed)
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
		h.Why = strings.Join(need.Actions, ", ") + " on " + strings.Join(need.Resources, ", ") + conditionText(need.Conditions) + " is enough: " + need.Why
	default:
		h.Standing, h.Why = Excess, "nothing on the node's boot path or of its running programs asks it"
		if why, ok := leftover[lower(action)]; ok {
			h.Why = why
		}
	}
	return h
}

// conditionText describes conditions briefly.
func conditionText(all []Condition) string {
	var parts []string
	for _, c := range all {
		parts = append(parts, fmt.Sprintf("%s %s %s", c.Operator, c.Key, strings.Join(c.Values, "|")))
	}
	if len(parts) == 0 {
		return ""
	}
	return " with " + strings.Join(parts, " and ")
}

// overlapping returns the first need that an action pattern covers in part, with the actions that it covers.
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

// Difference is the difference between two sets of policies.
type Difference struct {
	// Narrower is whether the second set allows nothing new, Wider whether it allows all that the first does.
	Narrower Proof `json:"narrower"`
	Wider    Proof `json:"wider"`
	// Lost and Gained are the action patterns of the first and second set that allow requests which the other set
	// does not.
	Lost   []Holding `json:"lost"`
	Gained []Holding `json:"gained"`
}

// Diff compares what two sets of policies allow, not how they are written.
func Diff(first, second []Policy) Difference {
	return Difference{
		Narrower: Prove(second, first),
		Wider:    Prove(first, second),
		Lost:     exceeding(first, second),
		Gained:   exceeding(second, first),
	}
}

func exceeding(of, other []Policy) (all []Holding) {
	for _, action := range actionsOf(of) {
		proof := Prove(restrictTo(action, of), other)
		switch proof.Verdict {
		case NotSubset:
			all = append(all, Holding{What: action, Standing: Excess, Why: "such as " + proof.Counter.String(), Example: proof.Counter})
		case CannotDecide:
			all = append(all, Holding{What: action, Standing: Unclear, Why: proof.Why})
		}
	}
	return all
}
