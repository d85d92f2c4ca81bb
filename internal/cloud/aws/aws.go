// Package aws observes a kOps cluster on AWS: seeds, Auto Scaling groups with their instances and launch templates, load
// balancers with target health, security groups as rules between parties, and the permissions of roles.
//
// A [Provider] only reads: its clients are interfaces without mutating methods. Changes are made by an [Operator], a type
// of its own with its own clients. Every call is recorded with the permission that it needs, so that the documented policy
// and the output of --explain-calls match the calls.
//
// Invariants: what could not be read is a [cloud.Gap], never an empty result; a security group that not every member of a
// party has proves nothing; a secret in user-data never leaves package bootconfig.
package aws

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/muster-dev/muster/internal/cloud"
)

// Config identifies the cluster and how to reach AWS.
type Config struct {
	// Cluster is the cluster's name. Only [Provider.Self] does not need it.
	Cluster string

	// Region is the AWS region. Empty: AWS_REGION, the profile, and with OnInstance the instance's region.
	Region string

	// Endpoint overrides the endpoints of all services. Empty: AWS_ENDPOINT_URL and the like, as the SDK reads them, or
	// AWS.
	Endpoint string

	// OnInstance is set if the program runs on an instance of the cluster: the region may then come from the metadata
	// service, which is used for credentials only otherwise.
	OnInstance bool

	// Timeout bounds each method as a whole. 0: 2 minutes.
	Timeout time.Duration

	// Attempts bounds the attempts of a call that is throttled or fails transiently. 0: as many as Timeout allows.
	Attempts int

	// Backoff bounds the delay between attempts, which grows with jitter from a second. 0: 5 seconds.
	Backoff time.Duration
}

const (
	defaultTimeout = 2 * time.Minute
	defaultBackoff = 5 * time.Second
	// attemptTimeout bounds one attempt, so that a hanging connection does not use up Timeout.
	attemptTimeout = 30 * time.Second
	// maxParallel bounds concurrent calls: AWS limits the rate per account.
	maxParallel = 4
)

// The clients, with read-only methods alone.
type (
	ec2API interface {
		DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
		DescribeLaunchTemplateVersions(context.Context, *ec2.DescribeLaunchTemplateVersionsInput, ...func(*ec2.Options)) (*ec2.DescribeLaunchTemplateVersionsOutput, error)
		DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
		DescribeSecurityGroups(context.Context, *ec2.DescribeSecurityGroupsInput, ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error)
	}
	autoscalingAPI interface {
		DescribeAutoScalingGroups(context.Context, *autoscaling.DescribeAutoScalingGroupsInput, ...func(*autoscaling.Options)) (*autoscaling.DescribeAutoScalingGroupsOutput, error)
	}
	elbv2API interface {
		DescribeLoadBalancers(context.Context, *elbv2.DescribeLoadBalancersInput, ...func(*elbv2.Options)) (*elbv2.DescribeLoadBalancersOutput, error)
		DescribeListeners(context.Context, *elbv2.DescribeListenersInput, ...func(*elbv2.Options)) (*elbv2.DescribeListenersOutput, error)
		DescribeTargetGroups(context.Context, *elbv2.DescribeTargetGroupsInput, ...func(*elbv2.Options)) (*elbv2.DescribeTargetGroupsOutput, error)
		DescribeTargetHealth(context.Context, *elbv2.DescribeTargetHealthInput, ...func(*elbv2.Options)) (*elbv2.DescribeTargetHealthOutput, error)
		DescribeTags(context.Context, *elbv2.DescribeTagsInput, ...func(*elbv2.Options)) (*elbv2.DescribeTagsOutput, error)
	}
	elbAPI interface {
		DescribeLoadBalancers(context.Context, *elb.DescribeLoadBalancersInput, ...func(*elb.Options)) (*elb.DescribeLoadBalancersOutput, error)
		DescribeInstanceHealth(context.Context, *elb.DescribeInstanceHealthInput, ...func(*elb.Options)) (*elb.DescribeInstanceHealthOutput, error)
		DescribeTags(context.Context, *elb.DescribeTagsInput, ...func(*elb.Options)) (*elb.DescribeTagsOutput, error)
	}
	iamAPI interface {
		GetInstanceProfile(context.Context, *iam.GetInstanceProfileInput, ...func(*iam.Options)) (*iam.GetInstanceProfileOutput, error)
		ListRolePolicies(context.Context, *iam.ListRolePoliciesInput, ...func(*iam.Options)) (*iam.ListRolePoliciesOutput, error)
		GetRolePolicy(context.Context, *iam.GetRolePolicyInput, ...func(*iam.Options)) (*iam.GetRolePolicyOutput, error)
		ListAttachedRolePolicies(context.Context, *iam.ListAttachedRolePoliciesInput, ...func(*iam.Options)) (*iam.ListAttachedRolePoliciesOutput, error)
	}
	imdsAPI interface {
		GetInstanceIdentityDocument(context.Context, *imds.GetInstanceIdentityDocumentInput, ...func(*imds.Options)) (*imds.GetInstanceIdentityDocumentOutput, error)
	}
)

// Provider observes one cluster. It implements [cloud.Provider].
type Provider struct {
	cluster string
	region  string
	timeout time.Duration

	credentials aws.CredentialsProvider
	ec2         ec2API
	autoscaling autoscalingAPI
	elbv2       elbv2API
	elb         elbAPI
	iam         iamAPI
	imds        imdsAPI
}

var _ cloud.Provider = (*Provider)(nil)

// regionName matches names of AWS regions.
var regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

// New returns a provider. It makes no call, except to the metadata service with OnInstance and without a Region. Errors
// are of kind [cloud.ErrUsage].
func New(ctx context.Context, c Config) (*Provider, error) {
	cfg, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		cluster:     c.Cluster,
		region:      cfg.Region,
		timeout:     c.Timeout,
		credentials: cfg.Credentials,
		ec2:         ec2.NewFromConfig(cfg),
		autoscaling: autoscaling.NewFromConfig(cfg),
		elbv2:       elbv2.NewFromConfig(cfg),
		elb:         elb.NewFromConfig(cfg),
		iam:         iam.NewFromConfig(cfg),
		imds:        imds.NewFromConfig(cfg),
	}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	return p, nil
}

// load returns the SDK's configuration.
func (c Config) load(ctx context.Context) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return c.retryer() }),
		config.WithAPIOptions([]func(*middleware.Stack) error{recordAttempts}),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(attemptTimeout)),
		config.WithLogger(logging.Nop{}), // it would write to standard error; faults are returned
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	} else if c.OnInstance {
		options = append(options, config.WithEC2IMDSRegion())
	}
	if c.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(c.Endpoint))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		var missing config.SharedConfigProfileNotExistError
		if errors.As(err, &missing) {
			return aws.Config{}, fmt.Errorf("AWS_PROFILE %q is in no configuration file: %w", missing.Profile, cloud.ErrUsage)
		}
		return aws.Config{}, fmt.Errorf("read the AWS configuration: %s: %w", oneLine(err.Error()), cloud.ErrUsage)
	}
	switch {
	case cfg.Region == "":
		return aws.Config{}, fmt.Errorf("no AWS region; set AWS_REGION: %w", cloud.ErrUsage)
	case !regionName.MatchString(cfg.Region):
		return aws.Config{}, fmt.Errorf("%q is no AWS region; write one such as us-east-1: %w", cfg.Region, cloud.ErrUsage)
	}
	return cfg, nil
}

// retryer retries, with jitter, what AWS documents as retryable. The SDK's retry quota is disabled: it would give up early
// on a throttled account, while the bound here is the deadline.
func (c Config) retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = c.Attempts
		if o.MaxAttempts == 0 {
			o.MaxAttempts = math.MaxInt32 // the SDK takes 0 for 3
		}
		o.MaxBackoff = c.Backoff
		if o.MaxBackoff == 0 {
			o.MaxBackoff = defaultBackoff
		}
		o.Backoff = retry.NewExponentialJitterBackoff(o.MaxBackoff)
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}})
	})
}

// authenticate checks that there are credentials, so that their lack is one error and not one per call.
func (p *Provider) authenticate(ctx context.Context) error {
	if _, err := p.credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("look for AWS credentials: %w: %w", ctx.Err(), cloud.ErrTransient)
		}
		return fmt.Errorf("no AWS credentials (tried environment, profile, instance); set AWS_PROFILE or log in: %w", cloud.ErrDenied)
	}
	return nil
}
