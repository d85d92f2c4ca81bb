package gce

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/bootconfig"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// group is an instance group of kOps while its managers are collected.
type group struct {
	cloud.Group
	ids       []string
	templates []string // current ones of its managers, without duplicates
}

func (g *group) addManager(m manager, template string) {
	g.ids = append(g.ids, m.Name)
	g.Min += m.TargetSize // without an autoscaler all three are the target
	g.Max += m.TargetSize
	g.Desired += m.TargetSize
	if zone := lastSegment(m.Zone); zone != "" && !slices.Contains(g.Zones, zone) {
		g.Zones = append(g.Zones, zone)
	}
	if !slices.Contains(g.templates, template) {
		g.templates = append(g.templates, template)
	}
}

// finish adds the group's template, which is unknown if its managers have different ones.
func (g *group) finish(s *survey.Survey, byName map[string]template, all []template) cloud.Group {
	slices.Sort(g.ids)
	slices.Sort(g.Zones)
	slices.Sort(g.templates)
	g.ID = strings.Join(g.ids, ",")
	survey.SortInstances(g.Instances)
	switch len(g.templates) {
	case 0:
		s.Gap(survey.WhatBoot, g.Name, "no managed instance group with a readable template makes its instances")
	case 1:
		t := byName[g.templates[0]]
		g.Template = s.Template(g.Name, t.Name, t.userData(), unreadable)
		g.Template.Version = t.Name
		if accounts := t.Properties.ServiceAccounts; len(accounts) > 0 {
			g.Template.Permissions = accounts[0].Email
		}
		for _, other := range all {
			if other.group() == g.Name && other.CreationTimestamp.Before(t.CreationTimestamp) {
				g.Template.Older++
			}
		}
	default:
		s.Gap(survey.WhatBoot, g.Name, fmt.Sprintf("its managed instance groups use different templates: %s", strings.Join(g.templates, ", ")))
	}
	return g.Group
}

// boot returns a template's boot configuration, or nil.
func boot(t template) *cloud.BootConfig {
	b, err := bootconfig.Parse(t.userData())
	if err != nil {
		return nil
	}
	return b
}
