// Package aws looks at a kOps cluster on AWS: seeds, Auto Scaling groups with
// their instances and launch templates, load balancers with target health,
// security groups as rules between the parties, and what each role may do.
//
// A [Provider] only reads: every client of its is reached through an interface
// without a mutating method. What changes a cluster is an [Operator], another type
// with clients of its own. Each call goes through one recorder, which knows the
// permission that it needs, so that the operator's policy and what --explain-calls
// prints cannot drift from what is called.
//
// Invariants: what could not be read is a [cloud.Gap] and never an empty answer;
// a security group that not every member of a party carries proves nothing; a
// secret in user-data never leaves package bootconfig.
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
	"github.com/aws/smithy-go/middleware"

	"github.com/muster-dev/muster/internal/cloud"
)

// Config says which cluster to look at, and from where.
type Config struct {
	// Cluster is kOps's name of the cluster. Only [Provider.Self] does without.
	Cluster string

	// Region is AWS's name of the region. Empty: AWS_REGION, the profile, and
	// with OnInstance the instance's own.
	Region string

	// Endpoint replaces the addresses of all services. Empty: AWS_ENDPOINT_URL
	// and its kin as the SDK reads them, or AWS itself.
	Endpoint string

	// OnInstance is set where the program runs on an instance of the cluster,
	// whose metadata service then says the region. Elsewhere that service is
	// only asked for credentials.
	OnInstance bool

	// Timeout bounds each method as a whole. 0: 2 minutes.
	Timeout time.Duration

	// Attempts bounds how often one call is made that meets throttling, a broken
	// service or none. 0: as often as Timeout allows.
	Attempts int

	// Backoff bounds the wait between two attempts, which grows with jitter
	// from a second. 0: 5 seconds.
	Backoff time.Duration
}

const (
	defaultTimeout = 2 * time.Minute
	defaultBackoff = 5 * time.Second
	// attemptTimeout bounds one attempt, so that a connection that hangs costs
	// an attempt and not the deadline.
	attemptTimeout = 30 * time.Second
	// parallel bounds calls at a time: AWS counts them a second, an account.
	parallel = 4
)

// What is called, and nothing that changes anything.
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

// Provider looks at one cluster. It implements [cloud.Provider].
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

// regionName is what AWS's names of regions look like.
var regionName = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)

// New returns a provider. It calls no service but, with OnInstance and without a
// Region, the instance's metadata. Faults are of kind [cloud.ErrUsage].
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

// load reads the SDK's configuration.
func (c Config) load(ctx context.Context) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return c.retryer() }),
		config.WithAPIOptions([]func(*middleware.Stack) error{rememberFaults}),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(attemptTimeout)),
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

// retryer retries with jitter what AWS says is worth it. Its own budget of
// retries is switched off: it would give up on a throttled account early, and
// what bounds us is the deadline.
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

// authenticate makes sure that there are credentials, so that none is one error
// and not one a call.
func (p *Provider) authenticate(ctx context.Context) error {
	if _, err := p.credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("look for AWS credentials: %w: %w", ctx.Err(), cloud.ErrTransient)
		}
		return fmt.Errorf("no AWS credentials (tried environment, profile, instance); set AWS_PROFILE or log in: %w", cloud.ErrDenied)
	}
	return nil
}
