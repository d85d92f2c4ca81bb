package iam

import "github.com/muster-dev/muster/internal/cluster"

var (
	everything = []string{"*"}
	gossip     = []cluster.Topology{cluster.Gossip}
)

const (
	resourceTag = "aws:ResourceTag/KubernetesCluster"
	requestTag  = "aws:RequestTag/KubernetesCluster"
)

func equals(key string, values ...string) Condition {
	return Condition{Operator: "StringEquals", Key: key, Values: values}
}

// table lists what nodes need, derived from what kOps grants release by release and from who calls it. What a later
// release with the same boot path does without is not needed by an earlier one. A worker needs no permission to
// identify itself to kops-controller: anybody may call sts:GetCallerIdentity.
var table = []row{
	{role: cluster.RoleNode, topologies: gossip, need: Need{
		Name: "FindSeeds", Boot: true, Caller: "protokube", Actions: []string{"ec2:DescribeInstances"}, Resources: everything,
		Why: "looks itself up and lists the cluster's instances as gossip seeds; without it a node that boots finds nobody to gossip with",
	}},
	{role: cluster.RoleNode, topologies: gossip, need: Need{
		Name: "ReadOwnConfiguration", Boot: true, Caller: "nodeup", Actions: []string{"s3:GetObject"},
		Resources: []string{"arn:{partition}:s3:::{state}/cluster-completed.spec", "arn:{partition}:s3:::{state}/igconfig/node/*"},
		Why:       "reads its configuration from the state store; without it a node that boots stops there",
	}},
	{role: cluster.RoleNode, topologies: gossip, need: Need{
		Name: "LocateStateStore", Caller: "nodeup", Actions: []string{"s3:GetBucketLocation", "s3:ListBucket"}, Resources: []string{"arn:{partition}:s3:::{state-bucket}"},
		Why: "finds the bucket's region, and tells a missing object from a forbidden one",
	}},
	{role: cluster.RoleNode, to: cluster.Release136, need: Need{
		Name: "MachineType", Boot: true, Caller: "nodeup", Actions: []string{"ec2:DescribeInstanceTypes"}, Resources: everything,
		Why: "looks up what its machine type can hold before it starts kubelet; kOps 1.37 does without",
	}},
	{role: cluster.RoleNode, registry: true, need: registryNeed},
	{role: cluster.RoleControlPlane, registry: true, need: registryNeed},

	{role: cluster.RoleControlPlane, need: Need{
		Name: "MountEtcdVolumes", Boot: true, Caller: "etcd-manager", Actions: []string{"ec2:AttachVolume"}, Resources: everything,
		Conditions: []Condition{equals(resourceTag, "{cluster}"), equals("aws:ResourceTag/k8s.io/role/master", "1")},
		Why:        "attaches etcd's volumes; without it a control-plane node has no etcd",
	}},
	{role: cluster.RoleControlPlane, need: Need{
		Name: "ReadStateStore", Boot: true, Caller: "nodeup, kops-controller", Actions: []string{"s3:Get*"}, Resources: []string{"arn:{partition}:s3:::{state}/*"},
		Why: "reads configuration, keys and what workers are served; private keys are among it",
	}},
	{role: cluster.RoleControlPlane, need: Need{
		Name: "KeepEtcdBackups", Caller: "etcd-manager",
		Actions:   []string{"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:PutObject"},
		Resources: []string{"arn:{partition}:s3:::{backups}/backups/etcd/main/*", "arn:{partition}:s3:::{backups}/backups/etcd/events/*"},
		Why:       "writes and expires etcd's backups, and reads the cluster's size from beside them",
	}},
	{role: cluster.RoleControlPlane, need: Need{
		Name: "LocateStores", Caller: "nodeup, etcd-manager",
		Actions:   []string{"s3:GetBucketLocation", "s3:GetEncryptionConfiguration", "s3:ListBucket", "s3:ListBucketVersions"},
		Resources: []string{"arn:{partition}:s3:::{state-bucket}", "arn:{partition}:s3:::{backups-bucket}"},
		Why:       "finds the buckets' regions, lists them, and writes as they are encrypted",
	}},
	{role: cluster.RoleControlPlane, need: Need{
		Name: "UseKeysThroughServices", Caller: "etcd-manager, EBS CSI driver",
		Actions: []string{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"}, Resources: everything,
		Conditions: []Condition{{Operator: "StringLike", Key: "kms:ViaService", Values: []string{"ec2.{region}.amazonaws.com", "s3.*.amazonaws.com"}}},
		Why:        "encrypted volumes and buckets are used through EC2 and S3",
	}},
	{role: cluster.RoleControlPlane, need: Need{
		Name: "KnowNodesAndVolumes", Boot: true, Caller: "kops-controller, etcd-manager, nodeup, protokube",
		Actions:   []string{"ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeRegions", "ec2:DescribeVolumes", "kms:CreateGrant", "kms:DescribeKey"},
		Resources: everything,
		Why:       "proves that a worker which asks to join is the cluster's, finds etcd's volumes and gossip seeds",
	}},

	{role: cluster.RoleControlPlane, addOn: true, to: cluster.Release135, need: Need{
		Name: "TagVolumesAndSnapshotsAtBirth", Caller: "EBS CSI driver", Actions: []string{"ec2:CreateTags"},
		Resources:  []string{"arn:{partition}:ec2:*:*:snapshot/*", "arn:{partition}:ec2:*:*:volume/*"},
		Conditions: []Condition{equals(requestTag, "{cluster}"), equals("ec2:CreateAction", "CreateSnapshot", "CreateVolume")},
		Why:        "marks new volumes and snapshots as the cluster's",
	}},
	{role: cluster.RoleControlPlane, addOn: true, from: cluster.Release136, need: Need{
		Name: "TagVolumesAtBirth", Caller: "EBS CSI driver", Actions: []string{"ec2:CreateTags"},
		Resources:  []string{"arn:{partition}:ec2:*:*:snapshot/*", "arn:{partition}:ec2:*:*:volume/*"},
		Conditions: []Condition{equals(requestTag, "{cluster}"), equals("ec2:CreateAction", "CopyVolumes", "CreateVolume")},
		Why:        "marks new volumes as the cluster's",
	}},
	{role: cluster.RoleControlPlane, addOn: true, need: Need{
		Name: "TagOwn", Caller: "EBS CSI driver, cloud-controller-manager", Actions: []string{"ec2:CreateTags", "ec2:DeleteTags"},
		Resources:  []string{"arn:{partition}:ec2:*:*:snapshot/*", "arn:{partition}:ec2:*:*:volume/*", "arn:{partition}:ec2:*:*:security-group/*"},
		Conditions: []Condition{{Operator: "Null", Key: requestTag, Values: []string{"true"}}, equals(resourceTag, "{cluster}")},
		Why:        "changes tags of what is the cluster's, but not whose it is",
	}},
	{role: cluster.RoleControlPlane, addOn: true, need: Need{
		Name: "TagSecurityGroupsAtBirth", Caller: "cloud-controller-manager", Actions: []string{"ec2:CreateTags"},
		Resources:  []string{"arn:{partition}:ec2:*:*:security-group/*"},
		Conditions: []Condition{equals(requestTag, "{cluster}"), equals("ec2:CreateAction", "CreateSecurityGroup")},
		Why:        "marks new security groups as the cluster's",
	}},
	{role: cluster.RoleControlPlane, addOn: true, need: Need{
		Name: "Look", Caller: "cloud-controller-manager, EBS CSI driver, cluster autoscaler, node termination handler",
		Actions: []string{
			"autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations",
			"autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags",
			"ec2:DescribeAvailabilityZones", "ec2:DescribeImages", "ec2:DescribeInstanceTopology", "ec2:DescribeLaunchTemplateVersions",
			"ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeTags",
			"ec2:DescribeVolumesModifications", "ec2:DescribeVpcs", "ec2:GetInstanceTypesFromInstanceRequirements",
			"elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeLoadBalancerAttributes", "elasticloadbalancing:DescribeLoadBalancerPolicies",
			"elasticloadbalancing:DescribeLoadBalancers", "elasticloadbalancing:DescribeTargetGroupAttributes", "elasticloadbalancing:DescribeTargetGroups",
			"elasticloadbalancing:DescribeTargetHealth", "iam:CreateServiceLinkedRole", "sqs:DeleteMessage", "sqs:ReceiveMessage",
		},
		Resources: everything, Why: "load balancers of Services, volumes, scaling and notices of termination",
	}},
	{role: cluster.RoleControlPlane, addOn: true, from: cluster.Release136, need: Need{
		Name: "LookAtVolumeStatus", Caller: "EBS CSI driver", Actions: []string{"ec2:DescribeVolumeStatus"}, Resources: everything,
		Why: "the driver that kOps 1.36 brings asks it",
	}},
	{role: cluster.RoleControlPlane, addOn: true, need: Need{
		Name: "ChangeOwn", Caller: "cloud-controller-manager, EBS CSI driver, cluster autoscaler, node termination handler",
		Actions: []string{
			"autoscaling:CompleteLifecycleAction", "autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup",
			"ec2:AttachVolume", "ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume", "ec2:DetachVolume",
			"ec2:ModifyInstanceAttribute", "ec2:ModifyVolume", "ec2:RevokeSecurityGroupIngress",
			"elasticloadbalancing:AddTags", "elasticloadbalancing:ApplySecurityGroupsToLoadBalancer", "elasticloadbalancing:AttachLoadBalancerToSubnets",
			"elasticloadbalancing:ConfigureHealthCheck", "elasticloadbalancing:CreateLoadBalancerListeners", "elasticloadbalancing:CreateLoadBalancerPolicy",
			"elasticloadbalancing:DeleteListener", "elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteLoadBalancerListeners",
			"elasticloadbalancing:DeleteTargetGroup", "elasticloadbalancing:DeregisterInstancesFromLoadBalancer", "elasticloadbalancing:DeregisterTargets",
			"elasticloadbalancing:DetachLoadBalancerFromSubnets", "elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyLoadBalancerAttributes",
			"elasticloadbalancing:ModifyTargetGroup", "elasticloadbalancing:ModifyTargetGroupAttributes",
			"elasticloadbalancing:RegisterInstancesWithLoadBalancer", "elasticloadbalancing:RegisterTargets",
			"elasticloadbalancing:SetLoadBalancerPoliciesForBackendServer", "elasticloadbalancing:SetLoadBalancerPoliciesOfListener",
		},
		Resources: everything, Conditions: []Condition{equals(resourceTag, "{cluster}")},
		Why: "changes what carries the cluster's tag",
	}},
	{role: cluster.RoleControlPlane, addOn: true, need: Need{
		Name: "MakeOwn", Caller: "cloud-controller-manager, EBS CSI driver",
		Actions:   []string{"ec2:CreateSecurityGroup", "ec2:CreateVolume", "elasticloadbalancing:CreateListener", "elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"},
		Resources: everything, Conditions: []Condition{equals(requestTag, "{cluster}")},
		Why: "makes what carries the cluster's tag from birth",
	}},
	{role: cluster.RoleControlPlane, addOn: true, from: cluster.Release136, need: Need{
		Name: "CopyVolumes", Caller: "EBS CSI driver", Actions: []string{"ec2:CopyVolumes"}, Resources: everything, Conditions: []Condition{equals(requestTag, "{cluster}")},
		Why: "the driver that kOps 1.36 brings clones volumes",
	}},
	{role: cluster.RoleControlPlane, addOn: true, need: Need{
		Name: "SecurityGroupsInNetwork", Caller: "cloud-controller-manager", Actions: []string{"ec2:CreateSecurityGroup"}, Resources: []string{"arn:{partition}:ec2:*:*:vpc/*"},
		Why: "a security group is made in a network, which has no tag in the request",
	}},
	{role: cluster.RoleControlPlane, addOn: true, to: cluster.Release135, need: Need{
		Name: "MakeOwnSnapshots", Caller: "EBS CSI driver", Actions: []string{"ec2:CreateSnapshot"}, Resources: everything, Conditions: []Condition{equals(requestTag, "{cluster}")},
		Why: "the driver that kOps 1.35 brings makes snapshots that carry the cluster's tag",
	}},
	{role: cluster.RoleControlPlane, addOn: true, to: cluster.Release135, need: Need{
		Name: "KeptFrom135", Caller: "unknown", Actions: []string{"ec2:DescribeAccountAttributes"}, Resources: everything,
		Why: "kOps 1.35 grants it and 1.36 no longer does; who calls it in 1.35 is not known, so it stays",
	}},
}

var registryNeed = Need{
	Name: "PullImages", Caller: "kubelet",
	Actions: []string{
		"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeRepositories", "ecr:GetAuthorizationToken",
		"ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy", "ecr:ListImages",
	},
	Resources: everything, Why: "pulls from the account's registry, as spec.iam.allowContainerRegistry asks",
}

// leftover explains permissions that workers often have without need.
var leftover = map[string]string{
	"autoscaling:describeautoscalinginstances": "kOps up to 1.35 grants it; since 1.36 no worker gets it",
	"ec2:describeinstances":                    "lists every instance of the account; only nodes that gossip need it",
	"ec2:describeregions":                      "kOps up to 1.35 grants it; since 1.36 no worker gets it",
	"ec2:describeinstancetypes":                "kOps 1.37 does without",
	"iam:getservercertificate":                 "kOps up to 1.35 grants it; since 1.36 no node gets it",
	"iam:listservercertificates":               "kOps up to 1.35 grants it; since 1.36 no node gets it",
	"kms:generaterandom":                       "kOps up to 1.35 grants it; since 1.36 no node gets it",
	"s3:getencryptionconfiguration":            "only who writes to the store needs it",
	"s3:listbucketversions":                    "only who deletes old versions needs it",
	"s3:get*":                                  "reads the state store; nodes that ask kops-controller for their configuration do not",
}
