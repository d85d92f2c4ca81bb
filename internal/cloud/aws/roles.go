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

// roles returns the roles of the groups' instance profiles, of templates and of running instances, and the name of each
// profile's role.
func (l *lookup) roles(ctx context.Context, groups []*group) ([]cloud.Role, map[string]string) {
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
		mu      sync.Mutex // guards the maps below
		byName  = map[string]*cloud.Role{}
		profile = map[string]string{}
	)
	forEach(slices.Sorted(maps.Keys(users)), func(name string) {
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
	forEach(names, func(name string) { l.permissions(ctx, byName[name]) })
	var all []cloud.Role
	for _, name := range names {
		all = append(all, *byName[name])
	}
	return all, profile
}

// roleOf returns the name of the role in an instance profile.
func (l *lookup) roleOf(ctx context.Context, profile string) (string, error) {
	out, err := call(ctx, &l.recorder, getProfile, profile, l.iam.GetInstanceProfile, &iam.GetInstanceProfileInput{InstanceProfileName: aws.String(profile)})
	if err != nil {
		return "", err
	}
	if out.InstanceProfile == nil || len(out.InstanceProfile.Roles) == 0 {
		return "", errors.New("the instance profile holds no role")
	}
	return aws.ToString(out.InstanceProfile.Roles[0].RoleName), nil
}

// permissions adds a role's policies: the documents of inline ones, the names of attached ones.
func (l *lookup) permissions(ctx context.Context, role *cloud.Role) {
	inParallel(
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

func (l *lookup) inlineNames(ctx context.Context, role string) (names []string, err error) {
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

// inline returns the document of a policy, which the API URL-encodes.
func (l *lookup) inline(ctx context.Context, role, name string) (string, error) {
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

func (l *lookup) attached(ctx context.Context, role string) (names []string, err error) {
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
