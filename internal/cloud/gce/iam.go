package gce

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/survey"
)

// policy is the IAM policy of a resource.
type policy struct {
	Bindings []struct {
		Role      string
		Members   []string
		Condition *struct{ Title string }
	}
}

// of returns an account's roles on a resource, as text.
func (p policy) of(account, resource string) (out []string) {
	for _, b := range p.Bindings {
		if !slices.Contains(b.Members, "serviceAccount:"+account) {
			continue
		}
		text := b.Role + " on " + resource
		if b.Condition != nil {
			text += " if " + b.Condition.Title
		}
		out = append(out, text)
	}
	return out
}

func (s *session) policy(ctx context.Context) (p policy, err error) {
	at := s.config.Projects + "/projects/" + url.PathEscape(s.project) + ":getIamPolicy"
	err = s.get(ctx, "read the permissions on project "+s.project, at, struct{}{}, &p)
	return p, err
}

// roles returns the roles of each group's service account on the project and on the buckets of the state store. kOps does
// not revoke what an older release granted.
func (s *session) roles(ctx context.Context, sv *survey.Survey, groups []cloud.Group, project policy) []cloud.Role {
	byAccount := map[string]*cloud.Role{}
	for _, g := range groups {
		account := g.Template.Permissions
		if account == "" {
			continue
		}
		r := byAccount[account]
		if r == nil {
			r = &cloud.Role{Name: account, Kind: cloud.KindBinding}
			byAccount[account] = r
		}
		if !slices.Contains(r.Roles, g.Role) {
			r.Roles = append(r.Roles, g.Role)
		}
	}
	buckets := map[string]policy{}
	for _, name := range bucketsOf(groups) {
		var p policy
		if err := s.get(ctx, "read the permissions on bucket "+name, s.config.Storage+"/b/"+url.PathEscape(name)+"/iam", nil, &p); err != nil {
			sv.Gap(survey.WhatPermissions, "gs://"+name, err.Error())
			continue
		}
		buckets[name] = p
	}
	out := make([]cloud.Role, 0, len(byAccount))
	for account, r := range byAccount {
		r.Bindings = project.of(account, "project "+s.project)
		for name, p := range buckets {
			r.Bindings = append(r.Bindings, p.of(account, "gs://"+name)...)
		}
		slices.Sort(r.Bindings)
		slices.Sort(r.Roles)
		out = append(out, *r)
	}
	return out
}

// bucketsOf returns the buckets of the state store in boot configurations.
func bucketsOf(groups []cloud.Group) (names []string) {
	for _, g := range groups {
		if g.Template.Boot == nil {
			continue
		}
		rest, ok := strings.CutPrefix(g.Template.Boot.ConfigBase, "gs://")
		name, _, _ := strings.Cut(rest, "/")
		if ok && name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
