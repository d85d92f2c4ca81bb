package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/muster-dev/muster/internal/cloud"
)

// tagMin is the tag that saves a group's minimum size while it is lowered, so that it survives a crash.
const tagMin = "muster.dev/min-size"

// scalingGroup returns one of the cluster's Auto Scaling groups.
func (o *Operator) scalingGroup(ctx context.Context, name string) (types.AutoScalingGroup, error) {
	out, err := change(ctx, describeGroups, name, o.autoscaling.DescribeAutoScalingGroups, &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{name}})
	if err != nil {
		return types.AutoScalingGroup{}, err
	}
	if len(out.AutoScalingGroups) == 0 {
		return types.AutoScalingGroup{}, fmt.Errorf("no group %s: %w", name, cloud.ErrNotFound)
	}
	g := out.AutoScalingGroups[0]
	if !slices.ContainsFunc(g.Tags, func(t types.TagDescription) bool {
		return aws.ToString(t.Key) == tagCluster && aws.ToString(t.Value) == o.cluster
	}) {
		return g, o.errForeign("group " + name)
	}
	return g, nil
}

// UndoSurge reverts [Operator.Detach]: it terminates the instances that did not join, without replacement, and attaches
// the old ones to their group again. The group's minimum size, which may prevent that, is lowered meanwhile.
func (o *Operator) UndoSurge(ctx context.Context, group string, old, remove []string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	defer func() { err = wrap(err, "put %v back into %s", old, group) }()
	g, err := o.scalingGroup(ctx, group)
	if err != nil {
		return err
	}
	inside := func(id string) bool {
		return slices.ContainsFunc(g.Instances, func(i types.Instance) bool { return aws.ToString(i.InstanceId) == id })
	}
	old = slices.DeleteFunc(slices.Clone(old), inside)
	if len(old) == 0 {
		return o.restoreMin(ctx, group)
	}
	remove = slices.DeleteFunc(slices.Clone(remove), func(id string) bool { return !inside(id) })
	size := len(g.Instances) - len(remove)
	if err := o.lowerMin(ctx, g, size); err != nil {
		return err
	}
	for _, id := range remove {
		if _, err := change(ctx, terminateMember, id, o.autoscaling.TerminateInstanceInAutoScalingGroup,
			&autoscaling.TerminateInstanceInAutoScalingGroupInput{InstanceId: &id, ShouldDecrementDesiredCapacity: aws.Bool(true)}); err != nil {
			return err
		}
	}
	// The group must not start the replacements that it has not started yet, either.
	if _, err := change(ctx, updateGroup, group, o.autoscaling.UpdateAutoScalingGroup,
		&autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: &group, DesiredCapacity: aws.Int32(int32(size))}); err != nil {
		return err
	}
	var gone []error
	for _, id := range old {
		i, err := o.instance(ctx, id)
		switch {
		case err != nil:
			return err
		case i == nil:
			gone = append(gone, fmt.Errorf("%s is gone: %w", id, cloud.ErrNotFound))
			continue
		}
		if _, err := change(ctx, attachInstances, id, o.autoscaling.AttachInstances,
			&autoscaling.AttachInstancesInput{AutoScalingGroupName: &group, InstanceIds: []string{id}}); err != nil {
			return err
		}
	}
	return errors.Join(append(gone, o.restoreMin(ctx, group))...)
}

// lowerMin lowers a group's minimum size to size, if it is greater, and saves it in a tag.
func (o *Operator) lowerMin(ctx context.Context, g types.AutoScalingGroup, size int) error {
	minSize := int(aws.ToInt32(g.MinSize))
	if minSize <= size {
		return nil
	}
	name := aws.ToString(g.AutoScalingGroupName)
	if _, saved := savedMin(g); !saved {
		if _, err := change(ctx, createTags, name, o.autoscaling.CreateOrUpdateTags, &autoscaling.CreateOrUpdateTagsInput{Tags: []types.Tag{minTag(name, strconv.Itoa(minSize))}}); err != nil {
			return err
		}
	}
	_, err := change(ctx, updateGroup, name, o.autoscaling.UpdateAutoScalingGroup, &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: &name, MinSize: aws.Int32(int32(size))})
	return err
}

// restoreMin restores a group's minimum size if it was lowered.
func (o *Operator) restoreMin(ctx context.Context, name string) error {
	g, err := o.scalingGroup(ctx, name)
	if err != nil {
		return err
	}
	minSize, saved := savedMin(g)
	if !saved {
		return nil
	}
	if _, err := change(ctx, updateGroup, name, o.autoscaling.UpdateAutoScalingGroup, &autoscaling.UpdateAutoScalingGroupInput{AutoScalingGroupName: &name, MinSize: aws.Int32(minSize)}); err != nil {
		return err
	}
	_, err = change(ctx, deleteTags, name, o.autoscaling.DeleteTags, &autoscaling.DeleteTagsInput{Tags: []types.Tag{minTag(name, strconv.Itoa(int(minSize)))}})
	return err
}

func minTag(group, value string) types.Tag {
	return types.Tag{Key: aws.String(tagMin), Value: &value, ResourceId: &group, ResourceType: aws.String("auto-scaling-group"), PropagateAtLaunch: aws.Bool(false)}
}

func savedMin(g types.AutoScalingGroup) (minSize int32, saved bool) {
	for _, t := range g.Tags {
		if aws.ToString(t.Key) == tagMin {
			n, err := strconv.ParseInt(aws.ToString(t.Value), 10, 32)
			return int32(n), err == nil
		}
	}
	return 0, false
}
