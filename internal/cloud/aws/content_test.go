package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func TestContentIsAllThatAnInstanceIsLaunchedFrom(t *testing.T) {
	made := func(change func(*types.ResponseLaunchTemplateData)) *version {
		tag := func(key, value string) types.Tag { return types.Tag{Key: &key, Value: &value} }
		disk := func(name string, size int32) types.LaunchTemplateBlockDeviceMapping {
			return types.LaunchTemplateBlockDeviceMapping{DeviceName: &name, Ebs: &types.LaunchTemplateEbsBlockDevice{VolumeSize: &size}}
		}
		d := &types.ResponseLaunchTemplateData{
			ImageId: aws.String("ami-1"), InstanceType: types.InstanceTypeM5Large, UserData: aws.String("I2Nsb3VkLWNvbmZpZwo="),
			SecurityGroupIds:    []string{"sg-1", "sg-2"},
			BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMapping{disk("/dev/a", 8), disk("/dev/b", 16)},
			NetworkInterfaces:   []types.LaunchTemplateInstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), Groups: []string{"sg-3", "sg-4"}}},
			TagSpecifications: []types.LaunchTemplateTagSpecification{
				{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{tag("a", "1"), tag("b", "2")}},
				{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{tag("a", "1")}},
			},
			MetadataOptions: &types.LaunchTemplateInstanceMetadataOptions{HttpTokens: types.LaunchTemplateHttpTokensStateRequired},
		}
		if change != nil {
			change(d)
		}
		return &version{content: contentOf(d)}
	}
	swap := func(change func(*types.ResponseLaunchTemplateData)) { // what is not to matter
		t.Helper()
		if got := generation(made(nil), made(change)); got != "new" {
			t.Errorf("another order makes it %s", got)
		}
	}
	swap(nil)
	swap(func(d *types.ResponseLaunchTemplateData) { s := d.SecurityGroupIds; s[0], s[1] = s[1], s[0] })
	swap(func(d *types.ResponseLaunchTemplateData) { s := d.BlockDeviceMappings; s[0], s[1] = s[1], s[0] })
	swap(func(d *types.ResponseLaunchTemplateData) { s := d.TagSpecifications; s[0], s[1] = s[1], s[0] })
	swap(func(d *types.ResponseLaunchTemplateData) { s := d.TagSpecifications[0].Tags; s[0], s[1] = s[1], s[0] })
	swap(func(d *types.ResponseLaunchTemplateData) { s := d.NetworkInterfaces[0].Groups; s[0], s[1] = s[1], s[0] })
	swap(func(d *types.ResponseLaunchTemplateData) {
		d.TagSpecifications = append(d.TagSpecifications, types.LaunchTemplateTagSpecification{ResourceType: types.ResourceTypeLaunchTemplate})
	})
	none := func(tags []types.LaunchTemplateTagSpecification) *version {
		return made(func(d *types.ResponseLaunchTemplateData) { d.TagSpecifications = tags })
	}
	if got := generation(none(nil), none([]types.LaunchTemplateTagSpecification{{ResourceType: types.ResourceTypeLaunchTemplate}})); got != "new" {
		t.Errorf("tags of the template itself, where there are no others, make it %s", got)
	}
	for what, change := range map[string]func(*types.ResponseLaunchTemplateData){
		"image":     func(d *types.ResponseLaunchTemplateData) { d.ImageId = aws.String("ami-2") },
		"type":      func(d *types.ResponseLaunchTemplateData) { d.InstanceType = types.InstanceTypeM5Xlarge },
		"user-data": func(d *types.ResponseLaunchTemplateData) { d.UserData = aws.String("") },
		"profile": func(d *types.ResponseLaunchTemplateData) {
			d.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecification{Name: aws.String("other")}
		},
		"security group":   func(d *types.ResponseLaunchTemplateData) { d.NetworkInterfaces[0].Groups[0] = "sg-5" },
		"size of a disk":   func(d *types.ResponseLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.VolumeSize = aws.Int32(9) },
		"metadata options": func(d *types.ResponseLaunchTemplateData) { d.MetadataOptions = nil },
	} {
		if got := generation(made(nil), made(change)); got != "old" {
			t.Errorf("another %s makes it %s, want old", what, got)
		}
	}
	for _, born := range []*version{nil, {}} {
		if got := generation(made(nil), born); got != "unknown" {
			t.Errorf("what was not read makes it %s, want unknown", got)
		}
	}
}
