package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"

	"github.com/muster-dev/muster/internal/cloud"
)

// classicsNamed returns classic load balancers by name.
func (l *lookup) classicsNamed(ctx context.Context, names []string) []cloud.LoadBalancer {
	found, err := l.classicBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerNames: names})
	if err != nil {
		l.gap("load balancers", "", err)
		return nil
	}
	return l.describeClassics(ctx, found)
}

// taggedClassic returns the classic load balancers that carry the tags of the API's.
// An account may have hundreds; kOps's names of them all begin alike.
func (l *lookup) taggedClassic(ctx context.Context) []cloud.LoadBalancer {
	found, err := l.classicBalancers(ctx, &elb.DescribeLoadBalancersInput{PageSize: aws.Int32(400)})
	if err != nil {
		l.gap("load balancers", "", err)
		return nil
	}
	found = slices.DeleteFunc(found, func(lb types.LoadBalancerDescription) bool {
		return !strings.HasPrefix(aws.ToString(lb.LoadBalancerName), "api-")
	})
	var ours []types.LoadBalancerDescription
	for some := range slices.Chunk(found, 20) {
		names := make([]string, len(some))
		for i, lb := range some {
			names[i] = aws.ToString(lb.LoadBalancerName)
		}
		out, err := call(ctx, &l.recorder, describeBalancerTags, fmt.Sprintf("%d classic load balancers", len(names)), l.elb.DescribeTags, &elb.DescribeTagsInput{LoadBalancerNames: names})
		if err != nil {
			l.gap("load balancers", "", err)
			return nil
		}
		for _, d := range out.TagDescriptions {
			if i := slices.Index(names, aws.ToString(d.LoadBalancerName)); i >= 0 && ofTheAPI(d.Tags, l.cluster) {
				ours = append(ours, some[i])
			}
		}
	}
	return l.describeClassics(ctx, ours)
}

// ofTheAPI reports whether a classic load balancer with such tags is a cluster's own.
func ofTheAPI(tags []types.Tag, cluster string) bool {
	has := func(key, value string) bool {
		return slices.ContainsFunc(tags, func(t types.Tag) bool { return aws.ToString(t.Key) == key && aws.ToString(t.Value) == value })
	}
	return has(tagCluster, cluster) && has(tagName, balancerName(cluster))
}

func (l *lookup) classicBalancers(ctx context.Context, in *elb.DescribeLoadBalancersInput) ([]types.LoadBalancerDescription, error) {
	var all []types.LoadBalancerDescription
	for {
		out, err := call(ctx, &l.recorder, describeLoadBalancers, "classic", l.elb.DescribeLoadBalancers, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.LoadBalancerDescriptions...)
		if in.Marker = out.NextMarker; aws.ToString(in.Marker) == "" {
			return all, nil
		}
	}
}

func (l *lookup) describeClassics(ctx context.Context, found []types.LoadBalancerDescription) []cloud.LoadBalancer {
	all := make([]cloud.LoadBalancer, len(found))
	work := make([]func(), len(found))
	for i, lb := range found {
		work[i] = func() { all[i] = l.classic(ctx, lb) }
	}
	inParallel(work...)
	return all
}

// classic describes a classic load balancer, all of whose listeners have the same instances.
func (l *lookup) classic(ctx context.Context, lb types.LoadBalancerDescription) cloud.LoadBalancer {
	name := aws.ToString(lb.LoadBalancerName)
	l.gap("addresses", name, errors.New("a classic load balancer has no addresses that last"))
	targets, err := l.classicHealth(ctx, name)
	if err != nil {
		l.gap("target health", name, err)
	}
	out := cloud.LoadBalancer{
		ID:             name,
		Name:           name,
		Class:          "classic",
		Scheme:         schemeOf(aws.ToString(lb.Scheme)),
		DNSName:        aws.ToString(lb.DNSName),
		SecurityGroups: lb.SecurityGroups,
	}
	check := ""
	if lb.HealthCheck != nil {
		check = aws.ToString(lb.HealthCheck.Target)
	}
	for _, d := range lb.ListenerDescriptions {
		if d.Listener == nil {
			continue
		}
		one := cloud.Listener{Port: int(d.Listener.LoadBalancerPort), Protocol: aws.ToString(d.Listener.Protocol), Check: check, Targets: slices.Clone(targets)}
		for n := range one.Targets {
			one.Targets[n].Port = int(aws.ToInt32(d.Listener.InstancePort))
		}
		out.Listeners = append(out.Listeners, one)
	}
	slices.SortFunc(out.Listeners, func(a, b cloud.Listener) int { return a.Port - b.Port })
	return out
}

func (l *lookup) classicHealth(ctx context.Context, name string) ([]cloud.Target, error) {
	out, err := call(ctx, &l.recorder, describeInstanceHealth, name, l.elb.DescribeInstanceHealth, &elb.DescribeInstanceHealthInput{LoadBalancerName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	targets := []cloud.Target{} // none is an answer
	for _, s := range out.InstanceStates {
		t := cloud.Target{ID: aws.ToString(s.InstanceId), Health: cloud.TargetUnknown}
		switch aws.ToString(s.State) {
		case "InService":
			t.Health = cloud.TargetHealthy
		case "OutOfService":
			t.Health, t.Reason = cloud.TargetUnhealthy, oneLine(aws.ToString(s.Description))
		}
		targets = append(targets, t)
	}
	return targets, nil
}
