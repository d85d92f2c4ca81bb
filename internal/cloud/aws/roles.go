package aws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// roles returns what the groups' instance profiles allow, those of templates and
// those that live instances still have, and which role each profile stands for.
func (l *look) roles(ctx context.Context, groups []*group) ([]cloud.Role, map[string]string) {
	users := map[string]map[cluster.Role]bool{} // profiles with the roles of their groups
	use := func(profile string, role cluster.Role) {
		if profile == "" {
			return
		}
		if users[profile] == nil {
			users[profile] = map[cluster.Role]bool{}
		}
		users[profile][role] = true
	}
	for _, g := range groups {
		use(g.profile, g.Role)
		for _, m := range g.machines {
			use(m.profile, g.Role)
		}
	}
	var (
		mu      sync.Mutex // guards what follows
		byName  = map[string]*cloud.Role{}
		profile = map[string]string{}
	)
	each(slices.Sorted(maps.Keys(users)), func(name string) {
		role, err := l.roleOf(ctx, name)
		if err != nil {
			l.gap("permissions", name, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		profile[name] = role
		r, ok := byName[role]
		if !ok {
			r = &cloud.Role{Name: role, Kind: cloud.KindPolicy}
			byName[role] = r
		}
		r.Roles = slices.Compact(slices.Sorted(slices.Values(append(r.Roles, slices.Collect(maps.Keys(users[name]))...))))
	})
	names := slices.Sorted(maps.Keys(byName))
	each(names, func(name string) { l.permissions(ctx, byName[name]) })
	var all []cloud.Role
	for _, name := range names {
		all = append(all, *byName[name])
	}
	return all, profile
}

// roleOf returns the name of the role in an instance profile.
func (l *look) roleOf(ctx context.Context, profile string) (string, error) {
	out, err := call(ctx, &l.recorder, getProfile, profile, l.iam.GetInstanceProfile, &iam.GetInstanceProfileInput{InstanceProfileName: aws.String(profile)})
	if err != nil {
		return "", err
	}
	if out.InstanceProfile == nil || len(out.InstanceProfile.Roles) == 0 {
		return "", errors.New("the instance profile holds no role")
	}
	return aws.ToString(out.InstanceProfile.Roles[0].RoleName), nil
}

// permissions fills in a role's policies: the text of those in the role, the
// names of those attached to it.
func (l *look) permissions(ctx context.Context, role *cloud.Role) {
	together(
		func() {
			names, err := l.inlineNames(ctx, role.Name)
			if err != nil {
				l.gap("permissions", role.Name, err)
				return
			}
			role.Policies = map[string]string{}
			for _, name := range names {
				text, err := l.inline(ctx, role.Name, name)
				if err != nil {
					l.gap("permissions", role.Name, err)
					continue
				}
				role.Policies[name] = text
			}
		},
		func() {
			var err error
			if role.Managed, err = l.attached(ctx, role.Name); err != nil {
				l.gap("permissions", role.Name, err)
			}
		},
	)
}

func (l *look) inlineNames(ctx context.Context, role string) (names []string, err error) {
	in := &iam.ListRolePoliciesInput{RoleName: aws.String(role)}
	for {
		out, err := call(ctx, &l.recorder, listRolePolicies, role, l.iam.ListRolePolicies, in)
		if err != nil {
			return nil, err
		}
		names = append(names, out.PolicyNames...)
		if !out.IsTruncated || aws.ToString(out.Marker) == "" {
			return names, nil
		}
		in.Marker = out.Marker
	}
}

// inline returns the text of a policy; the API hands it out as part of a URL.
func (l *look) inline(ctx context.Context, role, name string) (string, error) {
	out, err := call(ctx, &l.recorder, getRolePolicy, role+" "+name, l.iam.GetRolePolicy, &iam.GetRolePolicyInput{RoleName: aws.String(role), PolicyName: aws.String(name)})
	if err != nil {
		return "", err
	}
	text, err := url.PathUnescape(aws.ToString(out.PolicyDocument))
	if err != nil || text == "" {
		return "", fmt.Errorf("policy %s of role %s cannot be read", name, role)
	}
	return text, nil
}

func (l *look) attached(ctx context.Context, role string) (names []string, err error) {
	in := &iam.ListAttachedRolePoliciesInput{RoleName: aws.String(role)}
	for {
		out, err := call(ctx, &l.recorder, listAttached, role, l.iam.ListAttachedRolePolicies, in)
		if err != nil {
			return nil, err
		}
		for _, p := range out.AttachedPolicies {
			names = append(names, aws.ToString(p.PolicyName))
		}
		if !out.IsTruncated || aws.ToString(out.Marker) == "" {
			slices.Sort(names)
			return names, nil
		}
		in.Marker = out.Marker
	}
}
