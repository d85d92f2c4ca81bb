package aws

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/muster-dev/muster/internal/cloud"
)

// Operator changes one cluster's infrastructure. Its methods have deadlines, change only what has the cluster's tag, and
// are idempotent: called again after a crash, they complete what was begun. It is safe for concurrent use on different
// machines.
type Operator struct {
	cluster string
	timeout time.Duration
	poll    time.Duration

	ec2         *ec2.Client
	autoscaling *autoscaling.Client
	elbv2       *elbv2.Client
	elb         *elb.Client
	iam         *iam.Client
}

// defaultPoll is the interval at which the effect of a change is polled.
const defaultPoll = 5 * time.Second

// NewOperator returns an operator. It makes no call. Errors are of kind [cloud.ErrUsage].
func NewOperator(ctx context.Context, c Config) (*Operator, error) {
	cfg, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	return &Operator{
		cluster:     c.Cluster,
		timeout:     cmp.Or(c.Timeout, defaultTimeout),
		poll:        cmp.Or(c.Backoff, defaultPoll),
		ec2:         ec2.NewFromConfig(cfg),
		autoscaling: autoscaling.NewFromConfig(cfg),
		elbv2:       elbv2.NewFromConfig(cfg),
		elb:         elb.NewFromConfig(cfg),
		iam:         iam.NewFromConfig(cfg),
	}, nil
}

// The calls of an operator in addition to those of a provider.
const (
	attachInstances     action = "autoscaling:AttachInstances"
	attachTargets       action = "autoscaling:AttachLoadBalancerTargetGroups"
	authorizeIngress    action = "ec2:AuthorizeSecurityGroupIngress"
	createListener      action = "elasticloadbalancing:CreateListener"
	createTags          action = "autoscaling:CreateOrUpdateTags"
	createTargetGroup   action = "elasticloadbalancing:CreateTargetGroup"
	deleteClassic       action = "elasticloadbalancing:DeleteLoadBalancer"
	deleteRolePolicy    action = "iam:DeleteRolePolicy"
	deleteTags          action = "autoscaling:DeleteTags"
	deleteVersions      action = "ec2:DeleteLaunchTemplateVersions"
	deregisterInstances action = "elasticloadbalancing:DeregisterInstancesFromLoadBalancer"
	deregisterTargets   action = "elasticloadbalancing:DeregisterTargets"
	describeMembers     action = "autoscaling:DescribeAutoScalingInstances"
	describeTemplates   action = "ec2:DescribeLaunchTemplates"
	detachInstances     action = "autoscaling:DetachInstances"
	getConsole          action = "ec2:GetConsoleOutput"
	getRole             action = "iam:GetRole"
	modifyTargetGroup   action = "elasticloadbalancing:ModifyTargetGroupAttributes"
	modifyTemplate      action = "ec2:ModifyLaunchTemplate"
	putRolePolicy       action = "iam:PutRolePolicy"
	registerInstances   action = "elasticloadbalancing:RegisterInstancesWithLoadBalancer"
	registerTargets     action = "elasticloadbalancing:RegisterTargets"
	revokeIngress       action = "ec2:RevokeSecurityGroupIngress"
	terminate           action = "ec2:TerminateInstances"
	terminateMember     action = "autoscaling:TerminateInstanceInAutoScalingGroup"
	updateGroup         action = "autoscaling:UpdateAutoScalingGroup"
)

// changes are the actions of an operator in addition to a provider's, and what each is for.
var changes = map[action]string{
	attachInstances:     "put back an instance whose replacement did not join",
	attachTargets:       "let control-plane groups register on port 3988",
	authorizeIngress:    "let the load balancer reach port 3988; keep what is not gossip open",
	createListener:      "port 3988 of the load balancer",
	createTags:          "remember a group's smallest size while it is lowered",
	createTargetGroup:   "targets of port 3988",
	deleteClassic:       "the classic load balancer that nobody uses any more",
	deleteRolePolicy:    "take the bridge down",
	deleteTags:          "forget a group's smallest size when it is put back",
	deleteVersions:      "versions of launch templates from before",
	deregisterInstances: "take a control-plane node out of the classic load balancer",
	deregisterTargets:   "take a control-plane node out of the load balancer",
	describeMembers:     "which group an instance is in",
	describeTemplates:   "whose a launch template is",
	detachInstances:     "start the new instance before the old one goes",
	getConsole:          "why an instance did not join",
	getRole:             "whose a role is",
	modifyTargetGroup:   "how connections end when a target leaves",
	modifyTemplate:      "the default version is the current one",
	putRolePolicy:       "put the bridge up",
	registerInstances:   "put a control-plane node back",
	registerTargets:     "put a control-plane node back",
	revokeIngress:       "close gossip's ports",
	terminate:           "remove an instance that is in no group",
	terminateMember:     "replace an instance",
	updateGroup:         "lower a group's smallest size for a moment",
}

// ChangePermissions returns the IAM actions, sorted, that executing a plan needs in addition to [Permissions].
func ChangePermissions() []string {
	var all []string
	for a := range changes {
		all = append(all, string(a))
	}
	slices.Sort(all)
	return all
}

// errForeign returns the error for a resource without the cluster's tag.
func (o *Operator) errForeign(what string) error {
	return fmt.Errorf("%s does not carry the tag %s=%s and is left alone: %w", what, tagCluster, o.cluster, cloud.ErrUsage)
}

// change makes one call without recording it: the journal records what was done.
func change[In, Out, Option any](
	ctx context.Context, a action, resource string,
	do func(context.Context, *In, ...func(*Option)) (*Out, error), in *In,
) (*Out, error) {
	return call(ctx, &recorder{}, a, resource, do, in)
}

// await polls until done returns true or an error, or ctx ends.
func (o *Operator) await(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	for {
		ok, err := done(ctx)
		if ok || err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(o.poll):
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, context.Cause(ctx))
		}
	}
}

// instance returns one of the cluster's instances; nil if it is terminated or about to be.
func (o *Operator) instance(ctx context.Context, id string) (*ec2types.Instance, error) {
	out, err := change(ctx, describeInstances, id, o.ec2.DescribeInstances, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if errors.Is(err, cloud.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found *ec2types.Instance
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			if tagsOf(i.Tags)[tagCluster] != o.cluster {
				return nil, o.errForeign("instance " + id)
			}
			found = &i
		}
	}
	if found != nil && found.State != nil &&
		(found.State.Name == ec2types.InstanceStateNameTerminated || found.State.Name == ec2types.InstanceStateNameShuttingDown) {
		return nil, nil
	}
	return found, nil
}

// memberOf returns the name of an instance's Auto Scaling group, or nothing.
func (o *Operator) memberOf(ctx context.Context, id string) (string, error) {
	out, err := change(ctx, describeMembers, id, o.autoscaling.DescribeAutoScalingInstances, &autoscaling.DescribeAutoScalingInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return "", err
	}
	for _, i := range out.AutoScalingInstances {
		if aws.ToString(i.InstanceId) == id {
			return aws.ToString(i.AutoScalingGroupName), nil
		}
	}
	return "", nil
}

// Terminate terminates an instance. Its group, if any, starts a replacement. A missing instance is not an error.
func (o *Operator) Terminate(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	i, err := o.instance(ctx, id)
	if err != nil || i == nil {
		return wrap(err, "terminate instance %s", id)
	}
	group, err := o.memberOf(ctx, id)
	if err != nil {
		return fmt.Errorf("terminate instance %s: %w", id, err)
	}
	if group == "" {
		_, err = change(ctx, terminate, id, o.ec2.TerminateInstances, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	} else {
		_, err = change(ctx, terminateMember, id, o.autoscaling.TerminateInstanceInAutoScalingGroup,
			&autoscaling.TerminateInstanceInAutoScalingGroupInput{InstanceId: &id, ShouldDecrementDesiredCapacity: aws.Bool(false)})
	}
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	return wrap(err, "terminate instance %s", id)
}

// wrap adds what was attempted to an error; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// Detach detaches an instance from its group, which starts a replacement while the instance keeps running. One that is in
// no group is not an error.
func (o *Operator) Detach(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	i, err := o.instance(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("detach instance %s: %w", id, err)
	case i == nil:
		return fmt.Errorf("detach instance %s: it is gone: %w", id, cloud.ErrNotFound)
	}
	group, err := o.memberOf(ctx, id)
	if err != nil || group == "" {
		return wrap(err, "detach instance %s", id)
	}
	_, err = change(ctx, detachInstances, id, o.autoscaling.DetachInstances,
		&autoscaling.DetachInstancesInput{AutoScalingGroupName: &group, InstanceIds: []string{id}, ShouldDecrementDesiredCapacity: aws.Bool(false)})
	return wrap(err, "detach instance %s from %s", id, group)
}

// maxConsole bounds what is kept of a console's output, in bytes: its end matters.
const maxConsole = 16 << 10

// Console returns the end of an instance's console output; empty if it has none.
func (o *Operator) Console(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	in := &ec2.GetConsoleOutputInput{InstanceId: &id, Latest: aws.Bool(true)}
	out, err := change(ctx, getConsole, id, o.ec2.GetConsoleOutput, in)
	if err != nil && errors.Is(err, cloud.ErrUsage) { // older machine types only have the output of the boot
		in.Latest = nil
		out, err = change(ctx, getConsole, id, o.ec2.GetConsoleOutput, in)
	}
	if err != nil {
		return "", fmt.Errorf("read console of instance %s: %w", id, err)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return "", fmt.Errorf("read console of instance %s: it is not base64", id)
	}
	return strings.ToValidUTF8(string(text[max(0, len(text)-maxConsole):]), ""), nil
}
