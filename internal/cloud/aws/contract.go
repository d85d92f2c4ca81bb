package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"github.com/muster-dev/muster/internal/cloud"
)

// PutPolicy creates or replaces an inline policy of one of the cluster's roles.
func (o *Operator) PutPolicy(ctx context.Context, role, name, document string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := o.ownRole(ctx, role); err != nil {
		return fmt.Errorf("put policy %s into role %s: %w", name, role, err)
	}
	_, err := change(ctx, putRolePolicy, role, o.iam.PutRolePolicy, &iam.PutRolePolicyInput{RoleName: &role, PolicyName: &name, PolicyDocument: &document})
	return wrap(err, "put policy %s into role %s", name, role)
}

// DeletePolicy deletes an inline policy of one of the cluster's roles. A missing one is not an error.
func (o *Operator) DeletePolicy(ctx context.Context, role, name string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	err := o.ownRole(ctx, role)
	if err == nil {
		_, err = change(ctx, deleteRolePolicy, role, o.iam.DeleteRolePolicy, &iam.DeleteRolePolicyInput{RoleName: &role, PolicyName: &name})
	}
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	return wrap(err, "take policy %s out of role %s", name, role)
}

func (o *Operator) ownRole(ctx context.Context, role string) error {
	out, err := change(ctx, getRole, role, o.iam.GetRole, &iam.GetRoleInput{RoleName: &role})
	if err != nil {
		return err
	}
	if out.Role == nil || !slices.ContainsFunc(out.Role.Tags, func(t iamtypes.Tag) bool {
		return aws.ToString(t.Key) == tagCluster && aws.ToString(t.Value) == o.cluster
	}) {
		return o.errForeign("role " + role)
	}
	return nil
}

// DropVersions deletes the versions of a launch template older than keep, which becomes the default if an older one was.
// It returns how many it deleted.
func (o *Operator) DropVersions(ctx context.Context, template, keep string) (dropped int, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	defer func() { err = wrap(err, "delete versions before %s of launch template %s", keep, template) }()
	number, err := strconv.ParseInt(keep, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no version: %w", keep, cloud.ErrUsage)
	}
	found, err := change(ctx, describeTemplates, template, o.ec2.DescribeLaunchTemplates, &ec2.DescribeLaunchTemplatesInput{LaunchTemplateIds: []string{template}})
	if err != nil {
		return 0, err
	}
	if len(found.LaunchTemplates) != 1 || tagsOf(found.LaunchTemplates[0].Tags)[tagCluster] != o.cluster {
		return 0, o.errForeign("launch template " + template)
	}
	if aws.ToInt64(found.LaunchTemplates[0].DefaultVersionNumber) < number {
		if _, err := change(ctx, modifyTemplate, template, o.ec2.ModifyLaunchTemplate, &ec2.ModifyLaunchTemplateInput{LaunchTemplateId: &template, DefaultVersion: &keep}); err != nil {
			return 0, err
		}
	}
	var old []string
	in := &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &template, MaxResults: aws.Int32(200)}
	for {
		out, err := change(ctx, describeTemplateVersions, template, o.ec2.DescribeLaunchTemplateVersions, in)
		if err != nil {
			return 0, err
		}
		for _, v := range out.LaunchTemplateVersions {
			if n := aws.ToInt64(v.VersionNumber); n < number {
				old = append(old, strconv.FormatInt(n, 10))
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	for some := range slices.Chunk(old, 200) {
		out, err := change(ctx, deleteVersions, template, o.ec2.DeleteLaunchTemplateVersions, &ec2.DeleteLaunchTemplateVersionsInput{LaunchTemplateId: &template, Versions: some})
		if err != nil {
			return dropped, err
		}
		dropped += len(out.SuccessfullyDeletedLaunchTemplateVersions)
		if bad := out.UnsuccessfullyDeletedLaunchTemplateVersions; len(bad) > 0 && bad[0].ResponseError != nil {
			return dropped, fmt.Errorf("version %d stays: %s", aws.ToInt64(bad[0].VersionNumber), oneLine(aws.ToString(bad[0].ResponseError.Message)))
		}
	}
	return dropped, nil
}

// DeleteClassic deletes a classic load balancer of the cluster's API; that of a
// Service is refused. One that is gone is no error.
func (o *Operator) DeleteClassic(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	out, err := change(ctx, describeBalancerTags, name, o.elb.DescribeTags, &elb.DescribeTagsInput{LoadBalancerNames: []string{name}})
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	if err == nil && !slices.ContainsFunc(out.TagDescriptions, func(d elbtypes.TagDescription) bool { return ofTheAPI(d.Tags, o.cluster) }) {
		err = o.errForeign("load balancer " + name)
	}
	if err == nil {
		_, err = change(ctx, deleteClassic, name, o.elb.DeleteLoadBalancer, &elb.DeleteLoadBalancerInput{LoadBalancerName: &name})
	}
	return wrap(err, "delete classic load balancer %s", name)
}

// ownSecurityGroups returns the cluster's security groups.
func (o *Operator) ownSecurityGroups(ctx context.Context) ([]ec2types.SecurityGroup, error) {
	in := &ec2.DescribeSecurityGroupsInput{Filters: []ec2types.Filter{filter("tag:"+tagCluster, o.cluster)}}
	var all []ec2types.SecurityGroup
	for {
		out, err := change(ctx, describeSecurityGroups, tagCluster+"="+o.cluster, o.ec2.DescribeSecurityGroups, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.SecurityGroups...)
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// ClosePorts closes TCP and UDP ports between the cluster's own security groups. A rule with a wider range is replaced by
// rules for the remaining ports, which are added before it is revoked, so that no other port is ever closed. Rules for all
// protocols stay. It returns what it closed.
func (o *Operator) ClosePorts(ctx context.Context, ports []int) (closed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	defer func() { err = wrap(err, "close ports %v", ports) }()
	sgs, err := o.ownSecurityGroups(ctx)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, g := range sgs {
		own[aws.ToString(g.GroupId)] = true
	}
	for _, g := range sgs {
		for _, p := range g.IpPermissions {
			rule, left := splitPermission(p, own, ports)
			if rule == nil {
				continue
			}
			for _, l := range left {
				if err := o.authorize(ctx, aws.ToString(g.GroupId), l); err != nil {
					return closed, err
				}
			}
			if _, err := change(ctx, revokeIngress, aws.ToString(g.GroupId), o.ec2.RevokeSecurityGroupIngress,
				&ec2.RevokeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: []ec2types.IpPermission{*rule}}); err != nil {
				return closed, err
			}
			closed = append(closed, fmt.Sprintf("%s: %s %d-%d", aws.ToString(g.GroupName), aws.ToString(rule.IpProtocol), aws.ToInt32(rule.FromPort), aws.ToInt32(rule.ToPort)))
		}
	}
	return closed, nil
}

// splitPermission returns the part of a permission that allows the cluster's own security groups to reach one of the
// ports, and the permissions that remain without these ports; nil if it allows none.
func splitPermission(p ec2types.IpPermission, own map[string]bool, ports []int) (rule *ec2types.IpPermission, left []ec2types.IpPermission) {
	if proto := aws.ToString(p.IpProtocol); proto != "tcp" && proto != "udp" {
		return nil, nil
	}
	low, high := int(aws.ToInt32(p.FromPort)), int(aws.ToInt32(p.ToPort))
	var pairs []ec2types.UserIdGroupPair
	for _, pair := range p.UserIdGroupPairs {
		if own[aws.ToString(pair.GroupId)] {
			pairs = append(pairs, ec2types.UserIdGroupPair{GroupId: pair.GroupId})
		}
	}
	some := func(low, high int) ec2types.IpPermission {
		return ec2types.IpPermission{IpProtocol: p.IpProtocol, FromPort: aws.Int32(int32(low)), ToPort: aws.Int32(int32(high)), UserIdGroupPairs: pairs}
	}
	hit := false
	from := low
	for _, port := range slices.Sorted(slices.Values(ports)) {
		if port < low || port > high {
			continue
		}
		hit = true
		if from < port {
			left = append(left, some(from, port-1))
		}
		from = port + 1
	}
	if !hit || len(pairs) == 0 {
		return nil, nil
	}
	if from <= high {
		left = append(left, some(from, high))
	}
	full := some(low, high)
	return &full, left
}

// authorize adds a rule. An existing one is not an error.
func (o *Operator) authorize(ctx context.Context, sg string, p ec2types.IpPermission) error {
	_, err := o.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &sg, IpPermissions: []ec2types.IpPermission{p}})
	var api smithy.APIError
	if errors.As(err, &api) && strings.HasSuffix(api.ErrorCode(), ".Duplicate") {
		return nil
	}
	if err != nil {
		return explain(authorizeIngress, err, nil)
	}
	return nil
}
