package iam

import "testing"

func TestKeysOfDifferentResidualsDiffer(t *testing.T) {
	with := func(unknowns, conds []int) string {
		l := live{sideStatement: sideStatement{conds: conds}, resource: membership{anyOf: unknowns, fixed: true}}
		return (&residual{live: []live{l}}).key()
	}
	keys := map[string]string{}
	for name, key := range map[string]string{
		"no unknown, condition 0":          with(nil, []int{0}),
		"no unknown, condition 65536":      with(nil, []int{1 << 16}),
		"unknown 0, no condition":          with([]int{0}, nil),
		"unknown 65536, no condition":      with([]int{1 << 16}, nil),
		"unknown 59, no condition":         with([]int{';'}, nil),
		"no unknown, condition 59<<8":      with(nil, []int{';' << 8}),
		"conditions 65535 and 0, in order": with(nil, []int{1<<16 - 1, 0}),
		"condition 65535":                  with(nil, []int{1<<16 - 1}),
	} {
		if other, ok := keys[key]; ok {
			t.Errorf("%s and %s have one key", name, other)
		}
		keys[key] = name
	}
}
