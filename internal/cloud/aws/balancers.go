package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// balancers returns the load balancers in front of the control plane, sorted by
// name. They are found through the groups whose instances join them; where no
// group does, through the tags that kOps gives them. A classic one that no group
// joins is looked for beside a network one, too: kOps leaves it there, without
// targets, when it makes that one.
func (l *lookup) balancers(ctx context.Context, groups []*group) []cloud.LoadBalancer {
	var targets, classics []string
	for _, g := range groups {
		if g.Role != cluster.RoleNode && g.Role != cluster.RoleBastion {
			targets = append(targets, g.targets...)
			classics = append(classics, g.classics...)
		}
	}
	targets, classics = unique(targets), unique(classics)
	var network, classic []cloud.LoadBalancer
	if len(targets) == 0 && len(classics) == 0 {
		inParallel(
			func() { network = l.taggedNetwork(ctx) },
			func() { classic = l.taggedClassic(ctx) },
		)
	} else {
		inParallel(
			func() { network = l.balancersOf(ctx, targets) },
			func() {
				if len(classics) > 0 {
					classic = l.classicsNamed(ctx, classics)
				} else {
					classic = l.taggedClassic(ctx)
				}
			},
		)
	}
	all := append(network, classic...)
	slices.SortStableFunc(all, func(a, b cloud.LoadBalancer) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func unique(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }

// balancersOf returns the load balancers of target groups.
func (l *lookup) balancersOf(ctx context.Context, targets []string) []cloud.LoadBalancer {
	if len(targets) == 0 {
		return nil
	}
	groups, err := l.targetGroups(ctx, &elbv2.DescribeTargetGroupsInput{TargetGroupArns: targets})
	if err != nil {
		l.gap("load balancers", "", err)
		return nil
	}
	var arns []string
	for _, g := range groups {
		arns = append(arns, g.LoadBalancerArns...)
	}
	if arns = unique(arns); len(arns) == 0 {
		return nil // target groups without a listener
	}
	balancers, err := l.networkBalancers(ctx, &elbv2.DescribeLoadBalancersInput{LoadBalancerArns: arns})
	if err != nil {
		l.gap("load balancers", "", err)
		return nil
	}
	return l.describe(ctx, balancers)
}

// tagName is what kOps calls the load balancer of the API by: those of Services
// carry the cluster's tag, too.
const tagName = "Name"

func balancerName(cluster string) string { return "api." + cluster }

// taggedNetwork returns the load balancers that carry the tags of the API's.
func (l *lookup) taggedNetwork(ctx context.Context) []cloud.LoadBalancer {
	balancers, err := l.networkBalancers(ctx, &elbv2.DescribeLoadBalancersInput{PageSize: aws.Int32(400)})
	if err != nil {
		l.gap("load balancers", "", err)
		return nil
	}
	var ours []types.LoadBalancer
	for some := range slices.Chunk(balancers, 20) {
		arns := make([]string, len(some))
		for i, lb := range some {
			arns[i] = aws.ToString(lb.LoadBalancerArn)
		}
		out, err := call(ctx, &l.recorder, describeBalancerTags, fmt.Sprintf("%d load balancers", len(arns)), l.elbv2.DescribeTags, &elbv2.DescribeTagsInput{ResourceArns: arns})
		if err != nil {
			l.gap("load balancers", "", err)
			return nil
		}
		for _, d := range out.TagDescriptions {
			has := func(key, value string) bool {
				return slices.ContainsFunc(d.Tags, func(t types.Tag) bool { return aws.ToString(t.Key) == key && aws.ToString(t.Value) == value })
			}
			if i := slices.Index(arns, aws.ToString(d.ResourceArn)); i >= 0 && has(tagCluster, l.cluster) && has(tagName, balancerName(l.cluster)) {
				ours = append(ours, some[i])
			}
		}
	}
	return l.describe(ctx, ours)
}

func (l *lookup) networkBalancers(ctx context.Context, in *elbv2.DescribeLoadBalancersInput) ([]types.LoadBalancer, error) {
	var all []types.LoadBalancer
	for {
		out, err := call(ctx, &l.recorder, describeLoadBalancers, "network and application", l.elbv2.DescribeLoadBalancers, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.LoadBalancers...)
		if in.Marker = out.NextMarker; aws.ToString(in.Marker) == "" {
			return all, nil
		}
	}
}

func (l *lookup) targetGroups(ctx context.Context, in *elbv2.DescribeTargetGroupsInput) ([]types.TargetGroup, error) {
	var all []types.TargetGroup
	for {
		out, err := call(ctx, &l.recorder, describeTargetGroups, cmp.Or(aws.ToString(in.LoadBalancerArn), fmt.Sprintf("%d target groups", len(in.TargetGroupArns))), l.elbv2.DescribeTargetGroups, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.TargetGroups...)
		if in.Marker = out.NextMarker; aws.ToString(in.Marker) == "" {
			return all, nil
		}
	}
}

// describe adds listeners, target health and addresses.
func (l *lookup) describe(ctx context.Context, balancers []types.LoadBalancer) []cloud.LoadBalancer {
	all := make([]cloud.LoadBalancer, len(balancers))
	var work []func()
	for i, lb := range balancers {
		out := &all[i]
		*out = cloud.LoadBalancer{
			ID:             aws.ToString(lb.LoadBalancerArn),
			Name:           aws.ToString(lb.LoadBalancerName),
			Class:          string(lb.Type),
			Scheme:         schemeOf(string(lb.Scheme)),
			DNSName:        aws.ToString(lb.DNSName),
			SecurityGroups: lb.SecurityGroups,
		}
		work = append(work,
			func() { out.Listeners = l.listeners(ctx, out.ID, out.Name) },
			func() { out.Addresses = l.interfaces(ctx, out.Name) })
	}
	inParallel(work...)
	return all
}

func schemeOf(s string) string {
	if s == "internet-facing" {
		return "public"
	}
	return s
}

// interfaces returns the addresses of a network load balancer, from its network interfaces, since its own API does not
// have them.
func (l *lookup) interfaces(ctx context.Context, name string) []netip.Addr {
	in := &ec2.DescribeNetworkInterfacesInput{
		MaxResults: aws.Int32(pageSize),
		Filters:    []ec2types.Filter{filter("description", "ELB net/"+name+"/*"), filter("interface-type", "network_load_balancer")},
	}
	var all []netip.Addr
	for {
		out, err := call(ctx, &l.recorder, describeInterfaces, "ELB net/"+name+"/*", l.ec2.DescribeNetworkInterfaces, in)
		if err != nil {
			l.gap("addresses", name, err)
			return nil
		}
		for _, n := range out.NetworkInterfaces {
			texts := []string{aws.ToString(n.PrivateIpAddress)}
			if n.Association != nil {
				texts = append(texts, aws.ToString(n.Association.PublicIp))
			}
			for _, v6 := range n.Ipv6Addresses {
				texts = append(texts, aws.ToString(v6.Ipv6Address))
			}
			for _, s := range texts {
				if a, err := netip.ParseAddr(s); err == nil {
					all = append(all, a)
				}
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	if len(all) == 0 {
		l.gap("addresses", name, errors.New("no network interface is described as ELB net/"+name+"/...; a new load balancer has none for some minutes"))
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func (l *lookup) listeners(ctx context.Context, arn, name string) []cloud.Listener {
	in := &elbv2.DescribeListenersInput{LoadBalancerArn: aws.String(arn)}
	var found []types.Listener
	for {
		out, err := call(ctx, &l.recorder, describeListeners, name, l.elbv2.DescribeListeners, in)
		if err != nil {
			l.gap("listeners", name, err)
			return nil
		}
		found = append(found, out.Listeners...)
		if in.Marker = out.NextMarker; aws.ToString(in.Marker) == "" {
			break
		}
	}
	checks, targets := l.targetsBehind(ctx, arn, name)
	var all []cloud.Listener
	for _, f := range found {
		one := cloud.Listener{Port: int(aws.ToInt32(f.Port)), Protocol: string(f.Protocol)}
		for _, g := range forwardsTo(f) {
			one.Check = checks[g]
			one.Targets = appendTargets(one.Targets, targets[g])
		}
		slices.SortFunc(one.Targets, func(a, b cloud.Target) int { return cmp.Or(strings.Compare(a.ID, b.ID), a.Port-b.Port) })
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b cloud.Listener) int { return a.Port - b.Port })
	return all
}

// appendTargets adds the targets of a target group. Nil means that they could not be read, empty that there are none.
func appendTargets(targets, more []cloud.Target) []cloud.Target {
	if targets == nil && more != nil {
		targets = []cloud.Target{}
	}
	return append(targets, more...)
}

// targetsBehind returns the health checks and targets of a load balancer's target groups, by their ARN.
func (l *lookup) targetsBehind(ctx context.Context, arn, name string) (checks map[string]string, targets map[string][]cloud.Target) {
	groups, err := l.targetGroups(ctx, &elbv2.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(arn)})
	if err != nil {
		l.gap("target health", name, err)
		return nil, nil
	}
	var mu sync.Mutex // guards the maps
	checks, targets = map[string]string{}, map[string][]cloud.Target{}
	forEach(groups, func(g types.TargetGroup) {
		health, err := l.health(ctx, g)
		if err != nil {
			l.gap("target health", name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		id := aws.ToString(g.TargetGroupArn)
		targets[id] = health
		checks[id] = strings.TrimSpace(string(g.HealthCheckProtocol) + " " + aws.ToString(g.HealthCheckPath))
	})
	return checks, targets
}

func (l *lookup) health(ctx context.Context, g types.TargetGroup) ([]cloud.Target, error) {
	out, err := call(ctx, &l.recorder, describeTargetHealth, aws.ToString(g.TargetGroupName), l.elbv2.DescribeTargetHealth,
		&elbv2.DescribeTargetHealthInput{TargetGroupArn: g.TargetGroupArn})
	if err != nil {
		return nil, err
	}
	targets := []cloud.Target{} // none is an answer
	for _, d := range out.TargetHealthDescriptions {
		t := cloud.Target{Health: cloud.TargetUnknown}
		if d.Target != nil {
			t.ID, t.Port = aws.ToString(d.Target.Id), int(aws.ToInt32(d.Target.Port))
		}
		if d.TargetHealth != nil {
			t.Health = healthOf(d.TargetHealth.State)
			t.Reason = oneLine(aws.ToString(d.TargetHealth.Description))
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func healthOf(s types.TargetHealthStateEnum) cloud.TargetHealth {
	switch s {
	case types.TargetHealthStateEnumHealthy:
		return cloud.TargetHealthy
	case types.TargetHealthStateEnumUnhealthy, types.TargetHealthStateEnumUnused:
		return cloud.TargetUnhealthy
	case types.TargetHealthStateEnumDraining, types.TargetHealthStateEnumUnhealthyDraining:
		return cloud.TargetDraining
	case types.TargetHealthStateEnumInitial:
		return cloud.TargetInitial
	}
	return cloud.TargetUnknown
}

// forwardsTo returns the target groups that a listener forwards to.
func forwardsTo(f types.Listener) (groups []string) {
	for _, a := range f.DefaultActions {
		if a.TargetGroupArn != nil {
			groups = append(groups, *a.TargetGroupArn)
		}
		if a.ForwardConfig != nil {
			for _, g := range a.ForwardConfig.TargetGroups {
				groups = append(groups, aws.ToString(g.TargetGroupArn))
			}
		}
	}
	return unique(groups)
}
