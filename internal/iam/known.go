package iam

// knownActions are familiar actions, preferred in counter-examples. Actions that are not listed are found as well.
var knownActions = []string{
	"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAcl", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:GetBucketLocation",
	"ec2:DescribeInstances", "ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:DescribeVpcs",
	"iam:PassRole", "iam:CreateUser", "iam:GetServerCertificate",
	"sts:AssumeRole", "kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:GenerateRandom",
	"ecr:GetAuthorizationToken", "autoscaling:DescribeAutoScalingGroups", "elasticloadbalancing:DescribeLoadBalancers",
	"sqs:ReceiveMessage", "secretsmanager:GetSecretValue", "dynamodb:GetItem", "lambda:InvokeFunction",
}
