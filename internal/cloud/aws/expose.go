package aws

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	asgtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/muster-dev/muster/internal/cloud"
)

// configPort is the port at which kops-controller serves node configurations.
const configPort = 3988

// targetGroupName returns kOps's name for a target group: its purpose and cluster, truncated to 32 characters with a hash
// of the full name. kOps finds its resources by name, so that its next update adopts what is created here.
func targetGroupName(what, cluster string) string {
	name := what + "-" + strings.ReplaceAll(cluster, ".", "-")
	h := fnv.New32a()
	h.Write([]byte(name)) // never fails
	hash := strings.ToLower(base32.HexEncoding.EncodeToString(h.Sum(nil)))[:6]
	const most = 32
	// AWS rejects names with two consecutive dashes.
	return strings.TrimRight(name[:min(len(name), most-1-len(hash))], "-") + "-" + hash
}

// Expose adds port 3988 of the control plane to a network load balancer of the cluster, as kOps 1.36 does: a target group
// with kOps's name, health check and attributes, attached to the control plane's groups, a listener, and rules of security
// groups. What exists already stays.
func (o *Operator) Expose(ctx context.Context, balancer string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	defer func() { err = wrap(err, "expose port %d on %s", configPort, balancer) }()
	lbs, err := change(ctx, describeLoadBalancers, balancer, o.elbv2.DescribeLoadBalancers, &elbv2.DescribeLoadBalancersInput{LoadBalancerArns: []string{balancer}})
	if err != nil {
		return err
	}
	if len(lbs.LoadBalancers) != 1 {
		return fmt.Errorf("no such load balancer: %w", cloud.ErrNotFound)
	}
	lb := lbs.LoadBalancers[0]
	if err := o.ownBalancer(ctx, balancer); err != nil {
		return err
	}
	if err := o.openSecurityGroups(ctx, lb); err != nil {
		return err
	}
	group, err := o.configTargets(ctx, aws.ToString(lb.VpcId))
	if err != nil {
		return err
	}
	if err := o.attachTargetGroup(ctx, group); err != nil {
		return err
	}
	listeners, err := change(ctx, describeListeners, balancer, o.elbv2.DescribeListeners, &elbv2.DescribeListenersInput{LoadBalancerArn: &balancer})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(listeners.Listeners, func(l types.Listener) bool { return aws.ToInt32(l.Port) == configPort }) {
		return nil
	}
	_, err = change(ctx, createListener, balancer, o.elbv2.CreateListener, &elbv2.CreateListenerInput{
		LoadBalancerArn: &balancer, Protocol: types.ProtocolEnumTcp, Port: aws.Int32(configPort),
		DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: &group}},
		Tags:           o.balancerTags(""),
	})
	return err
}

func (o *Operator) ownBalancer(ctx context.Context, arn string) error {
	out, err := change(ctx, describeBalancerTags, arn, o.elbv2.DescribeTags, &elbv2.DescribeTagsInput{ResourceArns: []string{arn}})
	if err != nil {
		return err
	}
	for _, d := range out.TagDescriptions {
		if slices.ContainsFunc(d.Tags, func(t types.Tag) bool {
			return aws.ToString(t.Key) == tagCluster && aws.ToString(t.Value) == o.cluster
		}) {
			return nil
		}
	}
	return o.errForeign("load balancer " + arn)
}

func (o *Operator) balancerTags(name string) []types.Tag {
	tags := []types.Tag{
		{Key: aws.String(tagCluster), Value: &o.cluster},
		{Key: aws.String("kubernetes.io/cluster/" + o.cluster), Value: aws.String("owned")},
	}
	if name != "" {
		tags = append(tags, types.Tag{Key: aws.String("Name"), Value: &name})
	}
	return tags
}

// configTargets returns the target group of port 3988, and creates it if necessary.
func (o *Operator) configTargets(ctx context.Context, vpc string) (arn string, err error) {
	name := targetGroupName("kops-controller", o.cluster)
	found, err := change(ctx, describeTargetGroups, name, o.elbv2.DescribeTargetGroups, &elbv2.DescribeTargetGroupsInput{Names: []string{name}})
	switch {
	case err == nil && len(found.TargetGroups) > 0:
		arn = aws.ToString(found.TargetGroups[0].TargetGroupArn)
	case err == nil || errors.Is(err, cloud.ErrNotFound):
		if arn, err = o.createConfigTargets(ctx, name, vpc); err != nil {
			return "", err
		}
	default:
		return "", err
	}
	// Also if it exists: a run may have been killed after it created the target group.
	_, err = change(ctx, modifyTargetGroup, name, o.elbv2.ModifyTargetGroupAttributes, &elbv2.ModifyTargetGroupAttributesInput{
		TargetGroupArn: &arn, Attributes: []types.TargetGroupAttribute{
			{Key: aws.String("deregistration_delay.timeout_seconds"), Value: aws.String("30")},
			{Key: aws.String("deregistration_delay.connection_termination.enabled"), Value: aws.String("true")},
		},
	})
	return arn, err
}

func (o *Operator) createConfigTargets(ctx context.Context, name, vpc string) (arn string, err error) {
	created, err := change(ctx, createTargetGroup, name, o.elbv2.CreateTargetGroup, &elbv2.CreateTargetGroupInput{
		Name: &name, VpcId: &vpc, Protocol: types.ProtocolEnumTcp, Port: aws.Int32(configPort), TargetType: types.TargetTypeEnumInstance,
		HealthCheckProtocol: types.ProtocolEnumHttps, HealthCheckPath: aws.String("/healthz"), HealthCheckIntervalSeconds: aws.Int32(10),
		HealthyThresholdCount: aws.Int32(2), UnhealthyThresholdCount: aws.Int32(2), Tags: o.balancerTags(name),
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(created.TargetGroups[0].TargetGroupArn), nil
}

// attachTargetGroup attaches a target group to every Auto Scaling group of the control plane.
func (o *Operator) attachTargetGroup(ctx context.Context, arn string) error {
	in := &autoscaling.DescribeAutoScalingGroupsInput{Filters: []asgtypes.Filter{
		{Name: aws.String("tag:" + tagCluster), Values: []string{o.cluster}},
		{Name: aws.String("tag-key"), Values: []string{tagControlPlane, tagMaster}},
	}}
	for {
		out, err := change(ctx, describeGroups, tagControlPlane, o.autoscaling.DescribeAutoScalingGroups, in)
		if err != nil {
			return err
		}
		for _, g := range out.AutoScalingGroups {
			if slices.Contains(g.TargetGroupARNs, arn) {
				continue
			}
			if _, err := change(ctx, attachTargets, aws.ToString(g.AutoScalingGroupName), o.autoscaling.AttachLoadBalancerTargetGroups,
				&autoscaling.AttachLoadBalancerTargetGroupsInput{AutoScalingGroupName: g.AutoScalingGroupName, TargetGroupARNs: []string{arn}}); err != nil {
				return err
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return nil
		}
	}
}

// openSecurityGroups allows the load balancer to reach port 3988 of the control plane and the workers to reach the load
// balancer, if it has security groups at all.
func (o *Operator) openSecurityGroups(ctx context.Context, lb types.LoadBalancer) error {
	if len(lb.SecurityGroups) == 0 {
		return nil
	}
	sgs, err := o.ownSecurityGroups(ctx)
	if err != nil {
		return err
	}
	named := func(prefixes ...string) (ids []string) {
		for _, g := range sgs {
			for _, p := range prefixes {
				if aws.ToString(g.GroupName) == p+"."+o.cluster {
					ids = append(ids, aws.ToString(g.GroupId))
				}
			}
		}
		return ids
	}
	for _, balancer := range lb.SecurityGroups {
		for _, control := range named("masters", "control-plane") {
			if err := o.authorize(ctx, control, ec2types.IpPermission{
				IpProtocol: aws.String("tcp"), FromPort: aws.Int32(configPort), ToPort: aws.Int32(configPort),
				UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &balancer}},
			}); err != nil {
				return err
			}
		}
		for _, workers := range named("nodes") {
			if err := o.authorize(ctx, balancer, ec2types.IpPermission{
				IpProtocol: aws.String("-1"), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &workers}},
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
