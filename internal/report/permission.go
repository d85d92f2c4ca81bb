package report

import (
	"slices"

	"github.com/muster-dev/muster/internal/plan"
)

// permissions compares the permissions of all roles before and after.
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
			Dropped: subtract(was.Says, is.Says), Gained: subtract(is.Says, was.Says),
		})
	}
	return all
}

// subtract returns lines without those among others.
func subtract(lines, others []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return slices.Contains(others, l) })
}
