package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	asgtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// AWS's own tags of an instance: its Auto Scaling group, removed when it is detached, and the launch template that it was
// launched from.
const (
	tagScalingGroup    = "aws:autoscaling:groupName"
	tagTemplateID      = "aws:ec2launchtemplate:id"
	tagTemplateVersion = "aws:ec2launchtemplate:version"
)

// group is an instance group while it is being read.
type group struct {
	cloud.Group
	// from and version are the launch template of the next instance; version is a number, $Latest or $Default.
	from    templateRef
	version string
	profile string   // instance profile of the next instance
	sgs     []string // its security groups
	// machines become Instances in resolve.
	machines []machine
	// targets and classics are the attached target groups and classic load balancers.
	targets  []string
	classics []string
}

// machine is an instance while it is being read.
type machine struct {
	cloud.Instance
	from    templateRef // launched from
	profile string
	sgs     []string
	group   string // kOps's name
	role    cluster.Role
	asg     string // Auto Scaling group, also of a warm pool
}

// machines returns the groups with their instances, sorted by name. It fails if both lists cannot be read or are empty.
func (l *lookup) machines(ctx context.Context) ([]*group, error) {
	var (
		groups          []*group
		machines        []machine
		groupErr, ecErr error
	)
	inParallel(
		func() { groups, groupErr = l.scalingGroups(ctx) },
		func() { machines, ecErr = l.liveMachines(ctx) },
	)
	switch {
	case groupErr != nil && ecErr != nil:
		return nil, groupErr
	case groupErr != nil:
		l.gap("groups", "", groupErr)
	case ecErr != nil:
		l.gap("instances", "", ecErr)
	case len(groups) == 0 && len(machines) == 0:
		return nil, fmt.Errorf("no Auto Scaling group and no instance is tagged %s=%s; is the region right? %w", tagCluster, l.cluster, cloud.ErrNotFound)
	}
	return l.join(groups, machines), nil
}

func (l *lookup) scalingGroups(ctx context.Context) ([]*group, error) {
	in := &autoscaling.DescribeAutoScalingGroupsInput{
		MaxRecords: aws.Int32(100),
		Filters:    []asgtypes.Filter{{Name: aws.String("tag:" + tagCluster), Values: []string{l.cluster}}},
	}
	var groups []*group
	for {
		out, err := call(ctx, &l.recorder, describeGroups, tagCluster+"="+l.cluster, l.autoscaling.DescribeAutoScalingGroups, in)
		if err != nil {
			return nil, err
		}
		for _, g := range out.AutoScalingGroups {
			groups = append(groups, l.groupOf(g))
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return groups, nil
		}
	}
}

func (l *lookup) groupOf(g asgtypes.AutoScalingGroup) *group {
	tags := make(map[string]string, len(g.Tags))
	for _, t := range g.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	id := aws.ToString(g.AutoScalingGroupName)
	out := &group{
		Group: cloud.Group{
			Name:    tags[tagGroup],
			ID:      id,
			Role:    roleOf(tags),
			Min:     int(aws.ToInt32(g.MinSize)),
			Max:     int(aws.ToInt32(g.MaxSize)),
			Desired: int(aws.ToInt32(g.DesiredCapacity)),
			Zones:   slices.Sorted(slices.Values(g.AvailabilityZones)),
		},
		targets:  g.TargetGroupARNs,
		classics: g.LoadBalancerNames,
	}
	if out.Name == "" {
		out.Name = strings.TrimSuffix(strings.TrimSuffix(id, "."+l.cluster), ".masters")
	}
	spec := g.LaunchTemplate
	if m := g.MixedInstancesPolicy; spec == nil && m != nil && m.LaunchTemplate != nil {
		spec = m.LaunchTemplate.LaunchTemplateSpecification
	}
	out.from, out.version = refOf(spec)
	for _, i := range g.Instances {
		from, version := refOf(i.LaunchTemplate)
		out.machines = append(out.machines, machine{from: from, Instance: cloud.Instance{
			ID:      aws.ToString(i.InstanceId),
			Name:    aws.ToString(i.InstanceId), // kOps's nodes on AWS are named so
			Zone:    aws.ToString(i.AvailabilityZone),
			State:   strings.ToLower(string(i.LifecycleState)),
			Version: version,
		}})
	}
	return out
}

// refOf returns the template and version of a specification; an empty version is the default one.
func refOf(spec *asgtypes.LaunchTemplateSpecification) (ref templateRef, version string) {
	if spec == nil {
		return templateRef{}, ""
	}
	version = aws.ToString(spec.Version)
	if version == "" {
		version = "$Default"
	}
	return templateRef{id: aws.ToString(spec.LaunchTemplateId), name: aws.ToString(spec.LaunchTemplateName)}, version
}

func roleOf(tags map[string]string) cluster.Role {
	for _, t := range []struct {
		tag  string
		role cluster.Role
	}{
		{tagControlPlane, cluster.RoleControlPlane},
		{tagMaster, cluster.RoleControlPlane},
		{tagAPIServer, cluster.RoleAPIServer},
		{tagBastion, cluster.RoleBastion},
		{tagNode, cluster.RoleNode},
	} {
		if _, ok := tags[t.tag]; ok {
			return t.role
		}
	}
	return ""
}

// liveMachines returns the cluster's instances that are not terminated, in a group or not.
func (l *lookup) liveMachines(ctx context.Context) ([]machine, error) {
	instances, err := l.instances(ctx, &l.recorder, tagCluster+"="+l.cluster,
		filter("instance-state-name", "pending", "running", "shutting-down", "stopping", "stopped"))
	if err != nil {
		return nil, err
	}
	machines := make([]machine, len(instances))
	for n, i := range instances {
		machines[n] = machineOf(i)
	}
	return machines, nil
}

func machineOf(i ec2types.Instance) machine {
	tags := tagsOf(i.Tags)
	m := machine{
		Instance: cloud.Instance{
			ID:      aws.ToString(i.InstanceId),
			Name:    aws.ToString(i.InstanceId),
			Addr:    privateAddr(i),
			Version: tags[tagTemplateVersion],
		},
		from:  templateRef{id: tags[tagTemplateID]},
		group: tags[tagGroup],
		role:  roleOf(tags),
		asg:   tags[tagScalingGroup],
	}
	if i.State != nil {
		m.State = string(i.State.Name)
	}
	if i.Placement != nil {
		m.Zone = aws.ToString(i.Placement.AvailabilityZone)
	}
	if i.LaunchTime != nil {
		m.Launched = i.LaunchTime.UTC().Truncate(time.Second)
	}
	if i.IamInstanceProfile != nil {
		m.profile = profileName(aws.ToString(i.IamInstanceProfile.Arn))
	}
	for _, g := range i.SecurityGroups {
		m.sgs = append(m.sgs, aws.ToString(g.GroupId))
	}
	return m
}

// profileName is the last part of an instance profile's ARN, or the name itself.
func profileName(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

// join assigns instances to their groups, and sorts both. An instance that its group does not list is detached; one whose
// group does not exist, as Karpenter's, gets a group of its own.
func (l *lookup) join(groups []*group, machines []machine) []*group {
	byName := map[string]*group{}
	listed := map[string]*machine{}
	detached := map[*group][]machine{} // separate, since listed points into the slices
	for _, g := range groups {
		byName[g.Name] = g
		for n := range g.machines {
			listed[g.machines[n].ID] = &g.machines[n]
		}
	}
	for _, m := range machines {
		if known, ok := listed[m.ID]; ok {
			// The tag of the launch takes precedence over what Auto Scaling reports.
			if m.Version == "" {
				m.Version, m.from = known.Version, known.from
			}
			*known = m
		} else if m.State != "shutting-down" {
			name := cmp.Or(m.group, "(no group)")
			g, ok := byName[name]
			if !ok {
				g = &group{Group: cloud.Group{Name: name, Role: m.role}}
				byName[name] = g
				groups = append(groups, g)
			}
			// An instance of a warm pool still has its group's tag.
			m.Detached = g.ID != "" && m.asg == ""
			detached[g] = append(detached[g], m)
		}
	}
	for _, g := range groups {
		g.machines = append(g.machines, detached[g]...)
		slices.SortStableFunc(g.machines, func(a, b machine) int { return strings.Compare(a.ID, b.ID) })
	}
	slices.SortFunc(groups, func(a, b *group) int { return strings.Compare(a.Name, b.Name) })
	return groups
}

// resolve adds what depends on launch templates: the next instance's boot configuration, and the generation of each
// instance.
func (l *lookup) resolve(g *group, templates *templateSet) {
	next, err := templates.find(g.from, g.version)
	switch {
	case g.from.empty() && g.ID != "":
		err = errors.New("the Auto Scaling group has no launch template")
	case g.from.empty():
		err = errors.New("no Auto Scaling group of this name; what starts its instances is not known")
	}
	if err != nil {
		l.gap("boot configuration", g.Name, err)
	} else {
		l.resolveTemplate(g, next, templates)
	}
	for n := range g.machines {
		m := &g.machines[n]
		born, err := templates.find(m.from, m.Version)
		m.Generation = generation(next, born)
		if err == nil {
			m.Version = born.numberText()
			m.profile = cmp.Or(m.profile, born.profile)
		}
		if m.Generation == cloud.GenerationOld {
			m.Boot = born.boot
		}
		g.Instances = append(g.Instances, m.Instance)
	}
	if g.Role == "" {
		l.gap("role", g.Name, errors.New("no tag k8s.io/role/... and no boot configuration that says it"))
	}
}

func (l *lookup) resolveTemplate(g *group, next *version, templates *templateSet) {
	g.Template = cloud.Template{
		ID:      next.template.id,
		Version: next.numberText(),
		Hash:    next.hash,
		Boot:    next.boot,
		Older:   next.template.older(next.number),
	}
	g.profile, g.sgs = next.profile, next.sgs
	if g.Role == "" && next.boot != nil {
		g.Role = next.boot.Role
	}
	// A bastion boots without kOps.
	if next.boot == nil && g.Role != cluster.RoleBastion {
		l.gap("boot configuration", g.Name, fmt.Errorf("launch template %s version %d: %w", next.template.name, next.number, next.fault))
	}
	if b := next.boot; b != nil && b.Cluster != l.cluster {
		l.gap(cloud.GapForeignBoot, g.Name, fmt.Errorf("launch template %s boots into cluster %q", next.template.name, b.Cluster))
		g.Template.Boot = nil
	}
}

// generation compares the template version of an instance with that of the next one, by content and not by number: kOps
// creates a new version even to restore an earlier content.
func generation(next, born *version) cloud.Generation {
	switch {
	case next == nil || born == nil:
		return cloud.GenerationUnknown
	case next == born:
		return cloud.GenerationNew
	case next.content == "" || born.content == "":
		return cloud.GenerationUnknown
	case next.content == born.content:
		return cloud.GenerationNew
	}
	return cloud.GenerationOld
}
