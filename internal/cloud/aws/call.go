package aws

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/aws/smithy-go/middleware"

	"github.com/muster-dev/muster/internal/cloud"
)

// action is an API call that this package makes, as the IAM action that allows it; for these calls, the two have the same
// name.
type action string

// The calls of a provider.
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

// permissions are the actions of a provider and what each is for.
var permissions = map[action]string{
	describeGroups:           "instance groups and which instances they hold",
	describeInstances:        "instances, detached ones too, and seeds",
	describeTemplateVersions: "what instances boot with, by user-data",
	describeInterfaces:       "addresses of the network load balancer",
	describeSecurityGroups:   "who may reach whom",
	describeInstanceHealth:   "targets of a classic load balancer",
	describeListeners:        "ports of the load balancer",
	describeLoadBalancers:    "load balancers",
	describeBalancerTags:     "whose a load balancer is, where no group joins one",
	describeTargetGroups:     "health checks",
	describeTargetHealth:     "whether targets are healthy",
	getProfile:               "the role of an instance",
	getRolePolicy:            "what a role may do",
	listAttached:             "what a role may do",
	listRolePolicies:         "what a role may do",
}

// Permissions returns the IAM actions, sorted, that a complete observation needs. All are read-only.
func Permissions() []string {
	var all []string
	for a := range permissions {
		all = append(all, string(a))
	}
	slices.Sort(all)
	return all
}

// recorder records the calls of one observation.
type recorder struct {
	mu    sync.Mutex // guards the fields below
	calls []timedCall
}

// timedCall is a call and when it began.
type timedCall struct {
	cloud.Call
	began time.Time
}

// sortedCalls returns the calls by when they began.
func (r *recorder) sortedCalls() []cloud.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.calls, func(a, b timedCall) int { return a.began.Compare(b.began) })
	calls := make([]cloud.Call, len(r.calls))
	for i, c := range r.calls {
		calls[i] = c.Call
	}
	return calls
}

// attempt holds the error of a call's last attempt. The SDK drops it if a deadline ends the wait before the next one.
type attempt struct{ fault error }

type attemptKey struct{}

// recordAttempts adds a middleware to a client, inside the retry loop, that records the error of each attempt.
func recordAttempts(stack *middleware.Stack) error {
	step := middleware.FinalizeMiddlewareFunc("RememberFaults", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleFinalize(ctx, in)
		if last, ok := ctx.Value(attemptKey{}).(*attempt); ok && err != nil && ctx.Err() == nil {
			last.fault = err
		}
		return out, meta, err
	})
	return stack.Finalize.Insert(step, "Retry", middleware.After)
}

// call makes one API call, records it, and returns its error as one line with a kind of package cloud. All calls go
// through here.
func call[In, Out, Option any](
	ctx context.Context, r *recorder, a action, resource string,
	do func(context.Context, *In, ...func(*Option)) (*Out, error), in *In,
) (*Out, error) {
	began := time.Now()
	var last attempt
	out, err := do(context.WithValue(ctx, attemptKey{}, &last), in)
	if err != nil {
		err = explain(a, err, last.fault)
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
	r.calls = append(r.calls, timedCall{c, began})
	return out, err
}
