package kopstest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/muster-dev/muster/internal/cloud"
	musteraws "github.com/muster-dev/muster/internal/cloud/aws"
)

// awsSite is a cluster in the AWS that the environment leads to.
type awsSite struct {
	*musteraws.Provider
	*musteraws.Operator
	cluster string
	ec2     *ec2.Client
}

func openAWS(ctx context.Context, cluster string) (Site, error) {
	c := musteraws.Config{Cluster: cluster, Backoff: 20 * time.Millisecond}
	s := awsSite{cluster: cluster}
	var err error
	if s.Provider, err = musteraws.New(ctx, c); err != nil {
		return nil, err
	}
	if s.Operator, err = musteraws.NewOperator(ctx, c); err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	s.ec2 = ec2.NewFromConfig(cfg)
	return s, nil
}

// Render implements [Site].
func (s awsSite) Render(ctx context.Context, g cloud.Group, userData string) error {
	data, err := s.templateData(ctx, g.Template)
	if err != nil {
		return err
	}
	data.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte(userData)))
	out, err := s.ec2.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{LaunchTemplateId: &g.Template.ID, LaunchTemplateData: data})
	if err != nil {
		return err
	}
	// moto starts instances from the default version, whatever the group says.
	_, err = s.ec2.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{
		LaunchTemplateId: &g.Template.ID, DefaultVersion: aws.String(fmt.Sprint(*out.LaunchTemplateVersion.VersionNumber)),
	})
	return err
}

// templateData is what a version holds, as far as clusters in tests have it. moto
// knows no SourceVersion.
func (s awsSite) templateData(ctx context.Context, t cloud.Template) (*ec2types.RequestLaunchTemplateData, error) {
	found, err := s.ec2.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &t.ID, Versions: []string{t.Version}})
	if err != nil {
		return nil, err
	}
	was := found.LaunchTemplateVersions[0].LaunchTemplateData
	data := &ec2types.RequestLaunchTemplateData{ImageId: was.ImageId, InstanceType: was.InstanceType, KeyName: was.KeyName}
	if p := was.IamInstanceProfile; p != nil {
		data.IamInstanceProfile = &ec2types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: p.Name, Arn: p.Arn}
	}
	for _, n := range was.NetworkInterfaces {
		data.NetworkInterfaces = append(data.NetworkInterfaces, ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{
			DeviceIndex: n.DeviceIndex, Groups: n.Groups, AssociatePublicIpAddress: n.AssociatePublicIpAddress,
		})
	}
	return data, nil
}

// OpenPorts implements [Site].
func (s awsSite) OpenPorts(ctx context.Context) error {
	found, err := s.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{
		Filters: []ec2types.Filter{{Name: aws.String("tag:KubernetesCluster"), Values: []string{s.cluster}}},
	})
	if err != nil {
		return err
	}
	named := map[string]*string{}
	for _, g := range found.SecurityGroups {
		named[strings.TrimSuffix(aws.ToString(g.GroupName), "."+s.cluster)] = g.GroupId
	}
	control, workers := named["masters"], named["nodes"]
	if control == nil {
		control = named["control-plane"]
	}
	for _, r := range workersRules {
		_, err := s.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: control, IpPermissions: []ec2types.IpPermission{{
			IpProtocol: aws.String(r.Protocol), FromPort: aws.Int32(int32(r.Low)), ToPort: aws.Int32(int32(r.High)),
			UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: workers}},
		}}})
		var api smithy.APIError
		if errors.As(err, &api) && strings.HasSuffix(api.ErrorCode(), ".Duplicate") {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}
