package cluster

import (
	"fmt"
	"strings"
)

// problem is one thing that is wrong with a cluster, and the line that it came from.
type problem struct {
	line int
	msg  string
}

// validate returns what is wrong with a cluster as a whole, most basic first.
// What one field may hold is checked where it is read.
func (c *Cluster) validate() []problem {
	var problems []problem
	add := func(line int, format string, args ...any) {
		problems = append(problems, problem{line: line, msg: fmt.Sprintf(format, args...)})
	}
	switch {
	case len(c.Groups) == 0:
		add(c.Line, `cluster %q has no instance groups; add what "kops get instancegroups --name %s -o yaml" prints`, clip(c.Name), clip(c.Name))
		return problems
	case len(c.GroupsOf(RoleControlPlane)) == 0:
		add(c.Line, "cluster %q has no instance group with role ControlPlane; add its control-plane groups", clip(c.Name))
	case c.Size(RoleControlPlane) == 0:
		add(c.Line, "cluster %q has minSize 0 in every control-plane group; give one at least 1", clip(c.Name))
	}
	switch {
	case len(c.GroupsOf(RoleNode)) == 0:
		add(c.Line, "cluster %q has no instance group with role Node; add its worker groups", clip(c.Name))
	case c.Size(RoleNode) == 0:
		add(c.Line, "cluster %q has minSize 0 in every worker group; give one at least 1", clip(c.Name))
	}
	if c.Cloud != AWS {
		for _, list := range c.API.AccessLists {
			add(c.Line, "spec.kubernetesApiAccess names the prefix list %q, which only AWS has; write networks instead", clip(list))
		}
	}
	subnets := map[string]int{}
	for _, s := range c.Subnets {
		if first, ok := subnets[s.Name]; ok {
			add(s.Line, "subnet %q stands twice, first on line %d; rename or drop one", clip(s.Name), first)
			continue
		}
		subnets[s.Name] = s.Line
	}
	has := c.subnetNames()
	groups := map[string]int{}
	for _, g := range c.Groups {
		if first, ok := groups[g.Name]; ok {
			add(g.Line, "instance group %q stands twice, first on line %d; rename or drop one", clip(g.Name), first)
			continue
		}
		groups[g.Name] = g.Line
		for _, name := range g.Subnets {
			if _, ok := subnets[name]; !ok {
				add(g.Line, "instance group %q is in subnet %q, which spec.subnets does not have; it has %s",
					clip(g.Name), clip(name), has)
			}
		}
	}
	return problems
}

func (c *Cluster) subnetNames() string {
	if len(c.Subnets) == 0 {
		return "none"
	}
	names := make([]string, len(c.Subnets))
	for i, s := range c.Subnets {
		names[i] = s.Name
	}
	return clip(strings.Join(names, ", "))
}
