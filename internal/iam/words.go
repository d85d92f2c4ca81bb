package iam

import (
	"cmp"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
)

// Words describes what a role of any cloud may do, one line for each action or binding, sorted, so that two
// descriptions can be compared by eye. Equal lines mean equally written policies; whether one allows more than
// another is for [Prove].
func Words(role cloud.Role) []string {
	var lines []string
	policies, err := PoliciesOf(role)
	if err != nil {
		lines = append(lines, err.Error())
	}
	for _, p := range policies {
		for _, s := range p.Statements {
			lines = append(lines, s.describe()...)
		}
	}
	for _, name := range role.Managed {
		lines = append(lines, "policy "+name+", attached; its text was not read")
	}
	lines = append(lines, role.Bindings...)
	slices.SortFunc(lines, func(a, b string) int { return cmp.Or(strings.Compare(lower(a), lower(b)), strings.Compare(a, b)) })
	return slices.Compact(lines)
}

// describe returns a line for each action of a statement.
func (s Statement) describe() (lines []string) {
	actions := s.Action.Patterns
	if s.Action.Not {
		actions = []string{notAction(s.Action)}
	}
	resources := strings.Join(s.Resource.Patterns, ", ")
	if s.Resource.Not {
		resources = "all but " + resources
	}
	denied := ""
	if s.Effect == Deny {
		denied = "denied: "
	}
	for _, a := range actions {
		lines = append(lines, denied+a+" on "+resources+conditionText(s.Conditions))
	}
	return lines
}
