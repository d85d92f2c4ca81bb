package awstest

import (
	"context"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	asgtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing/types"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbv2types "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// World is a cluster in the emulator, as kOps creates it in one zone: groups, launch templates, security groups, roles and
// a load balancer.
type World struct {
	Cluster string
	EC2     *ec2.Client
	ASG     *autoscaling.Client
	ELB     *elb.Client
	ELBv2   *elbv2.Client
	IAM     *iam.Client

	VPC, Subnet    string
	SecurityGroups map[string]string // IDs of security groups, by name: control-plane, nodes, api-elb
	Targets        map[int]string    // target groups by port, as ARNs
	Balancer       string            // ARN of the network load balancer
	classic        string

	t testing.TB
}

// The load balancer of a [World].
const (
	NoBalancer      = ""
	NetworkBalancer = "network"
	ClassicBalancer = "classic"
)

// BalancerAddress is the address of a network load balancer's interface.
const BalancerAddress = "10.9.0.250"

// NewWorld creates a cluster without groups in the AWS of the environment.
func NewWorld(t testing.TB, cluster, balancer string) *World {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context())
	must(t, err)
	w := &World{
		Cluster:        cluster,
		EC2:            ec2.NewFromConfig(cfg),
		ASG:            autoscaling.NewFromConfig(cfg),
		ELB:            elb.NewFromConfig(cfg),
		ELBv2:          elbv2.NewFromConfig(cfg),
		IAM:            iam.NewFromConfig(cfg),
		SecurityGroups: map[string]string{},
		Targets:        map[int]string{},
		t:              t,
	}
	w.network()
	w.role("masters."+cluster, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:DescribeInstances","ec2:AttachVolume"],"Resource":"*"}]}`)
	w.role("nodes."+cluster, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:DescribeInstances","ec2:DescribeInstanceTypes"],"Resource":"*"}]}`)
	switch balancer {
	case NetworkBalancer:
		w.networkBalancer()
	case ClassicBalancer:
		w.classic = "api-classic"
		w.AddClassic(w.classic, "api."+cluster)
	}
	return w
}

// AddClassic adds a classic load balancer of the cluster, by its name and the tag
// that kOps, or a Service's controller, calls it by. No group joins it.
func (w *World) AddClassic(name, called string) {
	w.t.Helper()
	_, err := w.ELB.CreateLoadBalancer(w.ctx(), &elb.CreateLoadBalancerInput{
		LoadBalancerName: &name,
		Subnets:          []string{w.Subnet},
		SecurityGroups:   []string{w.SecurityGroups["api-elb"]},
		Listeners:        []elbtypes.Listener{{LoadBalancerPort: 443, InstancePort: aws.Int32(443), Protocol: aws.String("TCP"), InstanceProtocol: aws.String("TCP")}},
		Tags:             []elbtypes.Tag{{Key: aws.String("KubernetesCluster"), Value: &w.Cluster}, {Key: aws.String("Name"), Value: &called}},
	})
	must(w.t, err)
}

func (w *World) ctx() context.Context { return w.t.Context() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("build a cluster in the AWS emulator: %v", err)
	}
}

func (w *World) network() {
	vpc, err := w.EC2.CreateVpc(w.ctx(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")})
	must(w.t, err)
	w.VPC = *vpc.Vpc.VpcId
	subnet, err := w.EC2.CreateSubnet(w.ctx(), &ec2.CreateSubnetInput{VpcId: &w.VPC, CidrBlock: aws.String("10.9.0.0/20"), AvailabilityZone: aws.String(Region + "a")})
	must(w.t, err)
	w.Subnet = *subnet.Subnet.SubnetId
	for _, name := range []string{"control-plane", "nodes", "api-elb"} {
		sg, err := w.EC2.CreateSecurityGroup(w.ctx(), &ec2.CreateSecurityGroupInput{
			GroupName: aws.String(name + "." + w.Cluster), Description: aws.String(name), VpcId: &w.VPC, TagSpecifications: w.tagged(ec2types.ResourceTypeSecurityGroup),
		})
		must(w.t, err)
		w.SecurityGroups[name] = *sg.GroupId
	}
	w.Allow("control-plane", "tcp", 443, 443, "api-elb", "")
	w.Allow("control-plane", "tcp", 3988, 3988, "api-elb", "")
	w.Allow("control-plane", "-1", -1, -1, "control-plane", "")
	w.Allow("control-plane", "tcp", 1, 2379, "nodes", "")
	w.Allow("control-plane", "tcp", 2382, 4000, "nodes", "")
	w.Allow("nodes", "-1", -1, -1, "control-plane", "")
	w.Allow("api-elb", "-1", -1, -1, "nodes", "")
	w.Allow("api-elb", "tcp", 443, 443, "", "0.0.0.0/0")
}

// Allow allows a security group or a network to reach ports of another group.
func (w *World) Allow(to, protocol string, low, high int, from, network string) {
	w.t.Helper()
	p := ec2types.IpPermission{IpProtocol: aws.String(protocol), FromPort: aws.Int32(int32(low)), ToPort: aws.Int32(int32(high))}
	if from != "" {
		p.UserIdGroupPairs = []ec2types.UserIdGroupPair{{GroupId: aws.String(w.SecurityGroups[from])}}
	}
	if network != "" {
		p.IpRanges = []ec2types.IpRange{{CidrIp: aws.String(network)}}
	}
	_, err := w.EC2.AuthorizeSecurityGroupIngress(w.ctx(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String(w.SecurityGroups[to]), IpPermissions: []ec2types.IpPermission{p}})
	must(w.t, err)
}

func (w *World) tagged(kind ec2types.ResourceType) []ec2types.TagSpecification {
	return []ec2types.TagSpecification{{ResourceType: kind, Tags: []ec2types.Tag{{Key: aws.String("KubernetesCluster"), Value: &w.Cluster}}}}
}

func (w *World) role(name, policy string) {
	_, err := w.IAM.CreateRole(w.ctx(), &iam.CreateRoleInput{
		RoleName: &name, AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[]}`),
		Tags: []iamtypes.Tag{{Key: aws.String("KubernetesCluster"), Value: &w.Cluster}},
	})
	must(w.t, err)
	_, err = w.IAM.PutRolePolicy(w.ctx(), &iam.PutRolePolicyInput{RoleName: &name, PolicyName: &name, PolicyDocument: &policy})
	must(w.t, err)
	_, err = w.IAM.CreateInstanceProfile(w.ctx(), &iam.CreateInstanceProfileInput{InstanceProfileName: &name})
	must(w.t, err)
	_, err = w.IAM.AddRoleToInstanceProfile(w.ctx(), &iam.AddRoleToInstanceProfileInput{InstanceProfileName: &name, RoleName: &name})
	must(w.t, err)
}

func (w *World) networkBalancer() {
	const name = "api-network"
	lb, err := w.ELBv2.CreateLoadBalancer(w.ctx(), &elbv2.CreateLoadBalancerInput{
		Name: aws.String(name), Type: elbv2types.LoadBalancerTypeEnumNetwork, Scheme: elbv2types.LoadBalancerSchemeEnumInternetFacing,
		Subnets: []string{w.Subnet}, SecurityGroups: []string{w.SecurityGroups["api-elb"]},
		Tags: []elbv2types.Tag{{Key: aws.String("KubernetesCluster"), Value: aws.String(w.Cluster)}, {Key: aws.String("Name"), Value: aws.String("api." + w.Cluster)}},
	})
	must(w.t, err)
	w.Balancer = *lb.LoadBalancers[0].LoadBalancerArn
	for _, l := range []struct {
		port  int32
		check elbv2types.ProtocolEnum
		path  *string
	}{{443, elbv2types.ProtocolEnumTcp, nil}, {3988, elbv2types.ProtocolEnumHttps, aws.String("/healthz")}} {
		group, err := w.ELBv2.CreateTargetGroup(w.ctx(), &elbv2.CreateTargetGroupInput{
			Name: aws.String(fmt.Sprintf("targets-%d", l.port)), Protocol: elbv2types.ProtocolEnumTcp, Port: aws.Int32(l.port), VpcId: &w.VPC,
			TargetType: elbv2types.TargetTypeEnumInstance, HealthCheckProtocol: l.check, HealthCheckPath: l.path,
		})
		must(w.t, err)
		arn := *group.TargetGroups[0].TargetGroupArn
		w.Targets[int(l.port)] = arn
		_, err = w.ELBv2.CreateListener(w.ctx(), &elbv2.CreateListenerInput{
			LoadBalancerArn: &w.Balancer, Protocol: elbv2types.ProtocolEnumTcp, Port: aws.Int32(l.port),
			DefaultActions: []elbv2types.Action{{Type: elbv2types.ActionTypeEnumForward, TargetGroupArn: &arn}},
		})
		must(w.t, err)
	}
	_, err = w.EC2.CreateNetworkInterface(w.ctx(), &ec2.CreateNetworkInterfaceInput{
		SubnetId: &w.Subnet, PrivateIpAddress: aws.String(BalancerAddress), Description: aws.String("ELB net/" + name + "/0123456789abcdef"),
	})
	must(w.t, err)
}

// AddGroup adds an instance group with its launch template and size instances.
func (w *World) AddGroup(u UserData, size int) {
	w.t.Helper()
	u.Cluster = w.Cluster
	id := w.id(u)
	tags := map[string]string{"KubernetesCluster": w.Cluster, "kops.k8s.io/instancegroup": u.Group, "k8s.io/role/node": "1"}
	in := &autoscaling.CreateAutoScalingGroupInput{VPCZoneIdentifier: &w.Subnet}
	if u.Role == "ControlPlane" {
		delete(tags, "k8s.io/role/node")
		tags["k8s.io/role/control-plane"], tags["k8s.io/role/master"] = "1", "1"
		for _, arn := range w.Targets {
			in.TargetGroupARNs = append(in.TargetGroupARNs, arn)
		}
		if w.classic != "" {
			in.LoadBalancerNames = []string{w.classic}
		}
	}
	_, err := w.EC2.CreateLaunchTemplate(w.ctx(), &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: &id, LaunchTemplateData: w.data(u), TagSpecifications: w.tagged(ec2types.ResourceTypeLaunchTemplate),
	})
	must(w.t, err)
	n := aws.Int32(int32(size))
	in.AutoScalingGroupName, in.MinSize, in.MaxSize, in.DesiredCapacity = &id, n, n, n
	in.LaunchTemplate = &asgtypes.LaunchTemplateSpecification{LaunchTemplateName: &id, Version: aws.String("$Latest")}
	for k, v := range tags {
		in.Tags = append(in.Tags, asgtypes.Tag{Key: aws.String(k), Value: aws.String(v), ResourceId: &id, ResourceType: aws.String("auto-scaling-group"), PropagateAtLaunch: aws.Bool(true)})
	}
	_, err = w.ASG.CreateAutoScalingGroup(w.ctx(), in)
	must(w.t, err)
}

// Update creates a new version of a group's launch template, like kops update.
func (w *World) Update(u UserData) {
	w.t.Helper()
	u.Cluster = w.Cluster
	id := w.id(u)
	out, err := w.EC2.CreateLaunchTemplateVersion(w.ctx(), &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateName: &id, LaunchTemplateData: w.data(u)})
	must(w.t, err)
	// moto starts instances from the default version, whatever the group says.
	_, err = w.EC2.ModifyLaunchTemplate(w.ctx(), &ec2.ModifyLaunchTemplateInput{
		LaunchTemplateName: &id, DefaultVersion: aws.String(fmt.Sprint(*out.LaunchTemplateVersion.VersionNumber)),
	})
	must(w.t, err)
}

func (w *World) id(u UserData) string {
	if u.Role == "ControlPlane" {
		return u.Group + ".masters." + w.Cluster
	}
	return u.Group + "." + w.Cluster
}

func (w *World) data(u UserData) *ec2types.RequestLaunchTemplateData {
	sg, profile := "nodes", "nodes."+w.Cluster
	if u.Role == "ControlPlane" {
		sg, profile = "control-plane", "masters."+w.Cluster
	}
	return &ec2types.RequestLaunchTemplateData{
		ImageId:            aws.String("ami-12c6146b"),
		InstanceType:       ec2types.InstanceTypeM5Large,
		IamInstanceProfile: &ec2types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: &profile},
		NetworkInterfaces: []ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{
			{DeviceIndex: aws.Int32(0), Groups: []string{w.SecurityGroups[sg]}},
		},
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(u.String()))),
	}
}

// InstanceIDs returns the ids of a group's instances.
func (w *World) InstanceIDs(u UserData) (ids []string) {
	w.t.Helper()
	out, err := w.ASG.DescribeAutoScalingGroups(w.ctx(), &autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{w.id(u)}})
	must(w.t, err)
	for _, g := range out.AutoScalingGroups {
		for _, i := range g.Instances {
			ids = append(ids, *i.InstanceId)
		}
	}
	return ids
}

// Detach detaches instances from their group, which starts replacements.
func (w *World) Detach(u UserData, ids ...string) {
	w.t.Helper()
	id := w.id(u)
	_, err := w.ASG.DetachInstances(w.ctx(), &autoscaling.DetachInstancesInput{AutoScalingGroupName: &id, InstanceIds: ids, ShouldDecrementDesiredCapacity: aws.Bool(false)})
	must(w.t, err)
}
