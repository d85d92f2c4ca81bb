package survey

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cluster"
)

// Machine is an instance with what its tags say of it.
type Machine struct {
	cloud.Instance
	Group string
	Role  cluster.Role
	// Alive says that it runs or is about to.
	Alive bool
	// Mark is the same on machines that were made alike, as far as kOps wrote it
	// down in the cloud; empty if it did not.
	Mark string
	// Outdated says that kOps marked it as needing an update.
	Outdated bool
	// UserData is what it was made with; nil if it cannot be read back.
	UserData []byte
}

// Seeds returns the addresses of the control-plane machines that are alive, or
// an error of kind [cloud.ErrNotFound].
func Seeds(name string, machines []Machine) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, m := range machines {
		if m.Alive && m.Role == cluster.RoleControlPlane {
			addrs = append(addrs, m.Addr)
		}
	}
	addrs = Addrs(addrs)
	if len(addrs) == 0 {
		return nil, fmt.Errorf("seeds of %s: %w: %w", name, cloud.ErrNotFound, errNoSeed)
	}
	return addrs, nil
}

// Groups makes groups out of machines, in a cloud that has none: kOps makes
// machines one by one there. A group's template is what its newest machine was
// made from; Desired counts its machines that are alive; Min and Max are 0,
// because only the spec has them. unreadable is why user-data cannot be read
// back where it cannot.
func (s *Survey) Groups(machines []Machine, unreadable string) []cloud.Group {
	byName := map[string][]Machine{}
	for _, m := range machines {
		if m.Group == "" {
			s.Gap(WhatGroups, m.ID, "the instance is tagged with the cluster and with no group")
			continue
		}
		byName[m.Group] = append(byName[m.Group], m)
	}
	groups := make([]cloud.Group, 0, len(byName))
	for name, ms := range byName {
		groups = append(groups, s.group(name, ms, unreadable))
	}
	return groups
}

func (s *Survey) group(name string, machines []Machine, unreadable string) cloud.Group {
	slices.SortStableFunc(machines, func(a, b Machine) int {
		return cmp.Or(b.Launched.Compare(a.Launched), strings.Compare(a.ID, b.ID))
	})
	newest := machines[0]
	g := cloud.Group{Name: name, ID: name, Role: newest.Role}
	g.Template = s.Template(name, newest.ID, newest.UserData, unreadable)
	g.Template.Version = newest.Mark
	for _, m := range machines {
		m.Generation, m.Version = generation(m, newest), m.Mark
		if m.Generation != cloud.GenerationNew && m.UserData != nil {
			m.Boot, _ = bootconfig.Parse(m.UserData) // nil, as documented, if it cannot be read
		}
		if m.Alive {
			g.Desired++
		}
		if m.Zone != "" && !slices.Contains(g.Zones, m.Zone) {
			g.Zones = append(g.Zones, m.Zone)
		}
		g.Instances = append(g.Instances, m.Instance)
	}
	slices.Sort(g.Zones)
	SortInstances(g.Instances)
	return g
}

// generation compares m with the newest of its group. Being like the newest is
// as new as this cloud can tell; without anything to compare it is unknown.
func generation(m, newest Machine) cloud.Generation {
	switch {
	case m.Outdated:
		return cloud.GenerationOld
	case m.Mark != "" && newest.Mark != "":
		return generationIf(m.Mark == newest.Mark)
	case m.UserData != nil && newest.UserData != nil:
		return generationIf(bootconfig.Hash(m.UserData) == bootconfig.Hash(newest.UserData))
	}
	return cloud.GenerationUnknown
}

func generationIf(same bool) cloud.Generation {
	if same {
		return cloud.GenerationNew
	}
	return cloud.GenerationOld
}

// Template reads a group's template out of user-data. What cannot be read is a
// gap: unreadable if there is no user-data at all.
func (s *Survey) Template(group, id string, userData []byte, unreadable string) cloud.Template {
	t := cloud.Template{ID: id}
	if userData == nil {
		s.Gap(WhatBoot, group, unreadable)
		return t
	}
	t.Hash = bootconfig.Hash(userData)
	boot, err := bootconfig.Parse(userData)
	if err != nil {
		s.note(cloud.Gap{What: WhatBoot, Subject: group, Why: err.Error(), Absent: errors.Is(err, bootconfig.ErrEmpty)})
		return t
	}
	t.Boot = boot
	return t
}

// SortInstances orders instances as [cloud.Group] has them.
func SortInstances(is []cloud.Instance) {
	slices.SortStableFunc(is, func(a, b cloud.Instance) int {
		return cmp.Or(a.Launched.Compare(b.Launched), strings.Compare(a.ID, b.ID))
	})
}

// Tokens returns a role for each group whose template or instances carry
// secrets in their user-data, and names it in the template. A group whose
// user-data cannot be read is a gap: what it may do is unknown.
func (s *Survey) Tokens(groups []cloud.Group) (roles []cloud.Role) {
	for i := range groups {
		g := &groups[i]
		if g.Template.Boot == nil {
			s.Gap(WhatPermissions, g.Name, "its user-data cannot be read, so neither can the tokens in it")
			continue
		}
		names := slices.Clone(g.Template.Boot.Credentials)
		for _, in := range g.Instances {
			if in.Boot != nil {
				names = append(names, in.Boot.Credentials...)
			}
		}
		slices.Sort(names)
		role := cloud.Role{Name: "user-data of " + g.Name, Roles: []cluster.Role{g.Role}, Kind: cloud.KindToken}
		for _, n := range slices.Compact(names) {
			role.Bindings = append(role.Bindings, n+" in user-data")
		}
		g.Template.Permissions = role.Name
		roles = append(roles, role)
	}
	return roles
}

// Role reads the text of a role as kOps writes it into tags; older releases say
// Master, tags of the control plane may be in lower case.
func Role(text string) cluster.Role {
	switch strings.ToLower(text) {
	case "controlplane", "control-plane", "master":
		return cluster.RoleControlPlane
	case "node":
		return cluster.RoleNode
	case "apiserver", "api-server":
		return cluster.RoleAPIServer
	case "bastion":
		return cluster.RoleBastion
	}
	return ""
}

// Party is the side of a rule that a role stands on.
func Party(r cluster.Role) string {
	switch r {
	case cluster.RoleControlPlane, cluster.RoleAPIServer:
		return cloud.PartyControlPlane
	case cluster.RoleNode:
		return cloud.PartyWorkers
	}
	return ""
}

// NameTargets gives targets that are known by their address the ID of the
// machine that has it.
func NameTargets(balancers []cloud.LoadBalancer, machines []Machine) {
	byAddr := map[netip.Addr]string{}
	for _, m := range machines {
		if m.Addr.IsValid() {
			byAddr[m.Addr] = m.ID
		}
	}
	for _, lb := range balancers {
		for _, l := range lb.Listeners {
			for i := range l.Targets {
				if id, ok := byAddr[Addr(l.Targets[i].ID)]; ok {
					l.Targets[i].ID = id
				}
			}
		}
	}
}
