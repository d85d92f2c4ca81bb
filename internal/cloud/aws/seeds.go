package aws

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/muster-dev/muster/internal/cloud"
)

// kOps's tags.
const (
	tagCluster      = "KubernetesCluster"
	tagGroup        = "kops.k8s.io/instancegroup"
	tagControlPlane = "k8s.io/role/control-plane"
	tagMaster       = "k8s.io/role/master" // of older releases, still written by newer ones
	tagNode         = "k8s.io/role/node"
	tagAPIServer    = "k8s.io/role/apiserver"
	tagBastion      = "k8s.io/role/bastion"
)

// pageSize is the number of instances per page: AWS's maximum.
const pageSize = 1000

// Seeds implements [cloud.Provider], from running and pending instances with either control-plane tag.
func (p *Provider) Seeds(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := p.authenticate(ctx); err != nil {
		return nil, fmt.Errorf("look up seeds of %s: %w", p.cluster, err)
	}
	instances, err := p.instances(ctx, &recorder{}, "control plane",
		filter("instance-state-name", "pending", "running"),
		filter("tag-key", tagControlPlane, tagMaster))
	if err != nil {
		return nil, fmt.Errorf("look up seeds of %s: %w", p.cluster, err)
	}
	var seeds []netip.Addr
	for _, i := range instances {
		if a := privateAddr(i); a.IsValid() {
			seeds = append(seeds, a)
		}
	}
	if len(seeds) == 0 {
		return nil, fmt.Errorf("look up seeds of %s: no control-plane instance is tagged %s=%s in %s: %w",
			p.cluster, tagCluster, p.cluster, p.region, cloud.ErrNotFound)
	}
	slices.SortFunc(seeds, netip.Addr.Compare)
	return slices.Compact(seeds), nil
}

// instances returns the cluster's instances that match the filters.
func (p *Provider) instances(ctx context.Context, r *recorder, what string, filters ...types.Filter) ([]types.Instance, error) {
	in := &ec2.DescribeInstancesInput{
		MaxResults: aws.Int32(pageSize),
		Filters:    append([]types.Filter{filter("tag:"+tagCluster, p.cluster)}, filters...),
	}
	var all []types.Instance
	for {
		out, err := call(ctx, r, describeInstances, what, p.ec2.DescribeInstances, in)
		if err != nil {
			return nil, err
		}
		for _, reservation := range out.Reservations {
			all = append(all, reservation.Instances...)
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// Self identifies this instance from its metadata and tags. The cluster need not be configured.
func (p *Provider) Self(ctx context.Context) (cloud.Self, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	r := &recorder{}
	doc, err := call(ctx, r, metadata, "identity document", p.imds.GetInstanceIdentityDocument, &imds.GetInstanceIdentityDocumentInput{})
	if err != nil {
		return cloud.Self{}, fmt.Errorf("ask the instance's metadata who it is: %w", err)
	}
	self := cloud.Self{Name: doc.InstanceID}
	if self.Addr, err = netip.ParseAddr(doc.PrivateIP); err != nil {
		return cloud.Self{}, fmt.Errorf("instance %s: metadata has no private address: %w", doc.InstanceID, cloud.ErrNotFound)
	}
	if err := p.authenticate(ctx); err != nil {
		return cloud.Self{}, fmt.Errorf("look up instance %s: %w", self.Name, err)
	}
	out, err := call(ctx, r, describeInstances, self.Name, p.ec2.DescribeInstances, &ec2.DescribeInstancesInput{InstanceIds: []string{self.Name}})
	if err != nil {
		return cloud.Self{}, fmt.Errorf("look up instance %s: %w", self.Name, err)
	}
	for _, reservation := range out.Reservations {
		for _, i := range reservation.Instances {
			self.Cluster = tagsOf(i.Tags)[tagCluster]
		}
	}
	if self.Cluster == "" {
		return cloud.Self{}, fmt.Errorf("instance %s has no tag %s: %w", self.Name, tagCluster, cloud.ErrNotFound)
	}
	return self, nil
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// privateAddr returns an instance's private address, preferably IPv4; zero if it has none yet.
func privateAddr(i types.Instance) netip.Addr {
	a, err := netip.ParseAddr(aws.ToString(i.PrivateIpAddress))
	if err != nil {
		a, _ = netip.ParseAddr(aws.ToString(i.Ipv6Address))
	}
	return a
}

func tagsOf(list []types.Tag) map[string]string {
	tags := make(map[string]string, len(list))
	for _, t := range list {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}
