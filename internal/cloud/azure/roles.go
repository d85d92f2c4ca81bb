package azure

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cloud/rest"
	"github.com/muster-dev/muster/internal/cloud/survey"
	"github.com/muster-dev/muster/internal/cluster"
)

// authorization is the API version for role assignments.
const authorization = "2022-04-01"

// builtIn are the built-in roles that kOps assigns or assigned, by ID.
var builtIn = map[string]string{
	"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner", // to every scale set, until 1.35
	"b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
	"ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
	"acdd72a7-3385-48ef-bd42-f606fba81ae7": "Reader",
	"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
}

type assignment struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		Scope            string `json:"scope"`
	} `json:"properties"`
}

// roles returns the role assignments of each scale set's identity in the subscription.
func (p *Provider) roles(ctx context.Context, s *survey.Survey, sets []scaleSet) []cloud.Role {
	found := make([]*cloud.Role, len(sets))
	// errors are gaps, so none is returned
	_ = survey.Each(ctx, sets, func(ctx context.Context, i int, set scaleSet) error {
		if set.principal == "" {
			return nil
		}
		list, err := p.assignments(ctx, set.principal)
		if err != nil {
			s.Gap(survey.WhatPermissions, set.group, err.Error())
			return nil
		}
		r := &cloud.Role{Name: set.name, Roles: []cluster.Role{set.role}, Kind: cloud.KindBinding}
		for _, a := range list {
			id := a.Properties.RoleDefinitionID
			id = strings.ToLower(id[strings.LastIndexByte(id, '/')+1:])
			name, ok := builtIn[id]
			if !ok {
				name = "role " + id
			}
			r.Bindings = append(r.Bindings, name+" on "+a.Properties.Scope)
		}
		slices.Sort(r.Bindings)
		found[i] = r
		return nil
	})
	var out []cloud.Role
	for _, r := range found {
		if r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// assignments lists the role assignments of a principal in the subscription.
func (p *Provider) assignments(ctx context.Context, principal string) (all []assignment, err error) {
	next := runtime.JoinPaths(p.manager.Endpoint(), "/subscriptions/"+url.PathEscape(p.config.Subscription)+"/providers/Microsoft.Authorization/roleAssignments") +
		"?" + url.Values{"api-version": {authorization}, "$filter": {"principalId eq '" + principal + "'"}}.Encode()
	for next != "" {
		page, err := p.assignmentPage(ctx, next)
		if err != nil {
			return nil, rest.Classify("list the role assignments of "+principal, err)
		}
		for _, a := range page.Value {
			if strings.EqualFold(a.Properties.PrincipalID, principal) {
				all = append(all, a)
			}
		}
		next = page.NextLink
	}
	return all, nil
}

type assignmentPage struct {
	Value    []assignment `json:"value"`
	NextLink string       `json:"nextLink"`
}

func (p *Provider) assignmentPage(ctx context.Context, at string) (page assignmentPage, err error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, at)
	if err != nil {
		return page, err
	}
	resp, err := p.manager.Pipeline().Do(req)
	if err != nil {
		return page, err
	}
	defer resp.Body.Close()
	return page, runtime.UnmarshalAsJSON(resp, &page)
}
