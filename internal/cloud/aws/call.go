package aws

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
)

// action is an API call that this package makes, by AWS's name of the
// permission that allows it: for all of them, the two are spelled alike.
type action string

// The calls, and no others.
const (
	describeGroups           action = "autoscaling:DescribeAutoScalingGroups"
	describeInstances        action = "ec2:DescribeInstances"
	describeTemplateVersions action = "ec2:DescribeLaunchTemplateVersions"
	describeInterfaces       action = "ec2:DescribeNetworkInterfaces"
	describeSecurityGroups   action = "ec2:DescribeSecurityGroups"
	describeInstanceHealth   action = "elasticloadbalancing:DescribeInstanceHealth"
	describeListeners        action = "elasticloadbalancing:DescribeListeners"
	describeLoadBalancers    action = "elasticloadbalancing:DescribeLoadBalancers"
	describeBalancerTags     action = "elasticloadbalancing:DescribeTags"
	describeTargetGroups     action = "elasticloadbalancing:DescribeTargetGroups"
	describeTargetHealth     action = "elasticloadbalancing:DescribeTargetHealth"
	getProfile               action = "iam:GetInstanceProfile"
	getRolePolicy            action = "iam:GetRolePolicy"
	listAttached             action = "iam:ListAttachedRolePolicies"
	listRolePolicies         action = "iam:ListRolePolicies"
	metadata                 action = "instance metadata" // needs no permission
)

// recorder notes the calls of one look at a cluster.
type recorder struct {
	mu    sync.Mutex // guards what follows
	calls []timed
}

// timed is a call with its beginning, by which calls are put in order.
type timed struct {
	cloud.Call
	began time.Time
}

// inOrder returns the calls in the order in which they began.
func (r *recorder) inOrder() []cloud.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.calls, func(a, b timed) int { return a.began.Compare(b.began) })
	calls := make([]cloud.Call, len(r.calls))
	for i, c := range r.calls {
		calls[i] = c.Call
	}
	return calls
}

// call makes one API call, records it, and returns its error as one line of a
// kind of package cloud. All calls go through here.
func call[In, Out, Option any](
	ctx context.Context, r *recorder, a action, resource string,
	do func(context.Context, *In, ...func(*Option)) (*Out, error), in *In,
) (*Out, error) {
	began := time.Now()
	out, err := do(ctx, in)
	if err != nil {
		err = explain(a, err)
	}
	c := cloud.Call{Action: string(a), Resource: resource, Permission: string(a), Took: time.Since(began)}
	if a == metadata {
		c.Permission = ""
	}
	if err != nil {
		c.Err = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, timed{c, began})
	return out, err
}
