package aws

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/muster-dev/muster/internal/cloud"
)

// Deregister removes an instance from all load balancers of its group, and waits until none sends it connections, until
// ctx ends. kOps waits without a deadline here.
func (o *Operator) Deregister(ctx context.Context, id string) error {
	targets, classics, err := o.registrations(ctx, id)
	if err != nil {
		return fmt.Errorf("deregister instance %s: %w", id, err)
	}
	for _, arn := range targets {
		if err := o.deregister(ctx, arn, id); err != nil {
			return fmt.Errorf("deregister instance %s: %w", id, err)
		}
	}
	for _, name := range classics {
		_, err := change(ctx, deregisterInstances, name, o.elb.DeregisterInstancesFromLoadBalancer,
			&elb.DeregisterInstancesFromLoadBalancerInput{LoadBalancerName: &name, Instances: []elbtypes.Instance{{InstanceId: &id}}})
		if err != nil && !errors.Is(err, cloud.ErrNotFound) {
			return fmt.Errorf("deregister instance %s: %w", id, err)
		}
	}
	for _, arn := range targets {
		if err := o.await(ctx, "the load balancer stops sending to "+id, func(ctx context.Context) (bool, error) {
			state, err := o.targetState(ctx, arn, id)
			return state == types.TargetHealthStateEnumUnused || state == "", err
		}); err != nil {
			return err
		}
	}
	for _, name := range classics {
		if err := o.await(ctx, "the classic load balancer stops sending to "+id, func(ctx context.Context) (bool, error) {
			in, err := o.inClassic(ctx, name, id)
			return !in, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Register adds an instance to the load balancers that [Operator.Deregister] removed it from.
func (o *Operator) Register(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	targets, classics, err := o.registrations(ctx, id)
	if err != nil {
		return fmt.Errorf("register instance %s: %w", id, err)
	}
	for _, arn := range targets {
		if _, err := change(ctx, registerTargets, arn, o.elbv2.RegisterTargets, &elbv2.RegisterTargetsInput{TargetGroupArn: &arn, Targets: []types.TargetDescription{{Id: &id}}}); err != nil {
			return fmt.Errorf("register instance %s: %w", id, err)
		}
	}
	for _, name := range classics {
		if _, err := change(ctx, registerInstances, name, o.elb.RegisterInstancesWithLoadBalancer,
			&elb.RegisterInstancesWithLoadBalancerInput{LoadBalancerName: &name, Instances: []elbtypes.Instance{{InstanceId: &id}}}); err != nil {
			return fmt.Errorf("register instance %s: %w", id, err)
		}
	}
	return nil
}

// registrations returns the target groups and classic load balancers of an instance's group; none if the instance is
// terminated or in no group.
func (o *Operator) registrations(ctx context.Context, id string) (targets, classics []string, err error) {
	i, err := o.instance(ctx, id)
	if err != nil || i == nil {
		return nil, nil, err
	}
	name, err := o.memberOf(ctx, id)
	if err != nil || name == "" {
		return nil, nil, err
	}
	g, err := o.scalingGroup(ctx, name)
	return g.TargetGroupARNs, g.LoadBalancerNames, err
}

// targetState returns the health of an instance in a target group; empty if it is not registered.
func (o *Operator) targetState(ctx context.Context, arn, id string) (types.TargetHealthStateEnum, error) {
	out, err := change(ctx, describeTargetHealth, arn, o.elbv2.DescribeTargetHealth, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &arn})
	if err != nil {
		return "", err
	}
	for _, d := range out.TargetHealthDescriptions {
		if d.Target != nil && aws.ToString(d.Target.Id) == id && d.TargetHealth != nil {
			return d.TargetHealth.State, nil
		}
	}
	return "", nil
}

func (o *Operator) deregister(ctx context.Context, arn, id string) error {
	state, err := o.targetState(ctx, arn, id)
	if err != nil || state == "" || state == types.TargetHealthStateEnumDraining {
		return err
	}
	_, err = change(ctx, deregisterTargets, arn, o.elbv2.DeregisterTargets, &elbv2.DeregisterTargetsInput{TargetGroupArn: &arn, Targets: []types.TargetDescription{{Id: &id}}})
	return err
}

func (o *Operator) inClassic(ctx context.Context, name, id string) (bool, error) {
	out, err := change(ctx, describeInstanceHealth, name, o.elb.DescribeInstanceHealth, &elb.DescribeInstanceHealthInput{LoadBalancerName: &name})
	if err != nil {
		return true, err
	}
	for _, s := range out.InstanceStates {
		if aws.ToString(s.InstanceId) == id {
			return true, nil
		}
	}
	return false, nil
}
