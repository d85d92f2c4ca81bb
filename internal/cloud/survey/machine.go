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

// Machine is an instance with the contents of its tags.
type Machine struct {
	cloud.Instance
	Group string
	Role  cluster.Role
	// Alive is true if it runs or is about to.
	Alive bool
	// Fingerprint identifies what kOps created the machine from, if kOps recorded that in the cloud; else it is empty.
	Fingerprint string
	// Outdated is true if kOps marked it as needing an update.
	Outdated bool
	// UserData is nil if the cloud does not return it.
	UserData []byte
}

// Seeds returns the addresses of control-plane machines that are alive, or an error of kind [cloud.ErrNotFound].
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

// Groups groups machines on a cloud without instance groups. A group's template is that of its newest machine; Desired is
// the number of machines that are alive; Min and Max are 0, because only the spec has them. unreadable is the reason of the
// gap if user-data is nil.
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
	g.Template.Version = newest.Fingerprint
	for _, m := range machines {
		m.Generation, m.Version = generation(m, newest), m.Fingerprint
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

// generation compares m with the newest machine of its group. It is unknown without fingerprint and user-data.
func generation(m, newest Machine) cloud.Generation {
	switch {
	case m.Outdated:
		return cloud.GenerationOld
	case m.Fingerprint != "" && newest.Fingerprint != "":
		return generationIf(m.Fingerprint == newest.Fingerprint)
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

// Template returns a group's template from its user-data. If that cannot be parsed it is a gap; if it is nil, one with the
// reason unreadable.
func (s *Survey) Template(group, id string, userData []byte, unreadable string) cloud.Template {
	t := cloud.Template{ID: id}
	if userData == nil {
		s.Gap(WhatBoot, group, unreadable)
		return t
	}
	t.Hash = bootconfig.Hash(userData)
	boot, err := bootconfig.Parse(userData)
	if err != nil {
		s.addGap(cloud.Gap{What: WhatBoot, Subject: group, Why: err.Error(), Absent: errors.Is(err, bootconfig.ErrEmpty)})
		return t
	}
	t.Boot = boot
	return t
}

// SortInstances sorts instances as in a [cloud.Group].
func SortInstances(is []cloud.Instance) {
	slices.SortStableFunc(is, func(a, b cloud.Instance) int {
		return cmp.Or(a.Launched.Compare(b.Launched), strings.Compare(a.ID, b.ID))
	})
}

// Tokens returns a role for each group, with the names of the secrets in its user-data, and sets it in the template. A group
// whose user-data cannot be read is a gap, because its permissions are unknown.
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

// Role parses a role in kOps's tags; older releases write Master, and the case varies.
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

// Party returns the party of a role, or nothing.
func Party(r cluster.Role) string {
	switch r {
	case cluster.RoleControlPlane, cluster.RoleAPIServer:
		return cloud.PartyControlPlane
	case cluster.RoleNode:
		return cloud.PartyWorkers
	}
	return ""
}

// NameTargets replaces addresses in the IDs of targets by the IDs of the machines.
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
