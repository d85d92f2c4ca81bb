package report

import (
	"slices"

	"github.com/muster-dev/muster/internal/plan"
)

// permissions compares what roles might do with what they may do.
func permissions(before, after []plan.Fact) []Permission {
	all := []Permission{}
	find := func(in []plan.Fact, role string) plan.Fact {
		for _, f := range in {
			if f.What == "permissions" && f.Subject == role {
				return f
			}
		}
		return plan.Fact{Value: "none"}
	}
	for _, f := range slices.Concat(before, after) {
		if f.What != "permissions" || slices.ContainsFunc(all, func(p Permission) bool { return p.Role == f.Subject }) {
			continue
		}
		was, is := find(before, f.Subject), find(after, f.Subject)
		all = append(all, Permission{
			Role: f.Subject, Before: was.Value, After: is.Value, AllowedBefore: was.Says, AllowedAfter: is.Says,
			Dropped: without(was.Says, is.Says), Gained: without(is.Says, was.Says),
		})
	}
	return all
}

// without returns the lines that are not among others.
func without(lines, others []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return slices.Contains(others, l) })
}
