// Package s3 is a state store in a bucket of Amazon S3 or a compatible server.
//
// An object's version is its ETag; writes and deletes carry If-Match or If-None-Match. Amazon and most compatible servers
// honour them; package guard detects and handles the others. Each write has a unique identifier in the object's metadata,
// so that a write whose response was lost is recognised as our own.
package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/muster-dev/muster/internal/store"
)

const (
	// writeID is the metadata key of a write's identifier.
	writeID = "muster-write"

	maxAttempts    = 6
	maxBackoff     = 5 * time.Second
	requestTimeout = time.Minute
	// openTimeout bounds the credential chain and finding the bucket's region.
	openTimeout = 15 * time.Second
	// fallbackRegion is the region whose endpoint is asked for a bucket's region.
	fallbackRegion = "us-east-1"
)

// Config identifies the bucket and how to reach it. Empty fields are resolved by the AWS SDK: environment, shared files,
// instance metadata.
type Config struct {
	// Bucket and Prefix are the base; the prefix may be empty.
	Bucket string
	Prefix string
	// Scheme is that of the store's URL. Empty means s3.
	Scheme string
	// Endpoint is the server's URL. Empty means Amazon, unless the SDK's own
	// AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL says otherwise.
	Endpoint string
	// Region is the bucket's region. Empty means that of the SDK's configuration, corrected by asking Amazon.
	Region string
	// AccessKey and SecretKey are static credentials. Empty means the SDK's credential chain.
	AccessKey string
	SecretKey string
}

// Store is a store in a bucket. Make one with [Open].
type Store struct {
	client   *s3.Client
	bucket   string
	prefix   string // empty, or ends in a slash
	url      string
	region   string
	endpoint string // empty when it is Amazon
}

// Open finds credentials and, on Amazon, the bucket and its region.
func Open(ctx context.Context, c Config) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s := &Store{bucket: c.Bucket, endpoint: c.Endpoint}
	if c.Scheme == "" {
		c.Scheme = "s3"
	}
	s.url = c.Scheme + "://" + c.Bucket
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		s.prefix = c.Prefix + "/"
		s.url += "/" + c.Prefix
	}
	load := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return retryer() }),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(requestTimeout)),
		config.WithLogger(logging.Nop{}), // it would write to standard error; faults are returned
	}
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	}
	if c.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, &store.Fault{Where: s.url, What: fmt.Sprintf("the AWS configuration cannot be used: %v", err), Next: "correct AWS_PROFILE or the files that it names", Err: err}
	}
	if cfg.Credentials == nil {
		return nil, s.noCredentials(nil)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, s.noCredentials(err)
	}
	if cfg.Region == "" {
		cfg.Region = fallbackRegion
	}
	s.connect(cfg)
	if s.endpoint == "" {
		if err := s.findRegion(ctx, cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func retryer() aws.Retryer {
	// Amazon answers a conditional write that races with another one with 409: neither done nor refused.
	return retry.AddWithErrorCodes(retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = maxAttempts, maxBackoff
	}), "ConditionalRequestConflict", "OperationAborted")
}

func (s *Store) connect(cfg aws.Config) {
	s.region = cfg.Region
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if s.endpoint != "" {
			o.BaseEndpoint = aws.String(s.endpoint)
		}
		if o.BaseEndpoint == nil {
			return
		}
		s.endpoint = *o.BaseEndpoint
		o.UsePathStyle = true
		// Compatible servers reject checksums that they do not know.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
}

// findRegion asks Amazon for the bucket's region, which may differ from the configured one. If the response does not tell,
// the first read or write fails with it.
func (s *Store) findRegion(ctx context.Context, cfg aws.Config) error {
	head, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	region := ""
	switch {
	case err == nil:
		region = aws.ToString(head.BucketRegion)
	case statusOf(err) == http.StatusNotFound:
		return s.noBucket(err)
	default:
		var response *awshttp.ResponseError
		if !errors.As(err, &response) {
			return s.fault(ctx, "open", "", err)
		}
		region = response.HTTPResponse().Header.Get("X-Amz-Bucket-Region")
	}
	if region != "" && region != s.region {
		cfg.Region = region
		s.connect(cfg)
	}
	return nil
}

// Endpoint is the server's URL, or empty when it is Amazon.
func (s *Store) Endpoint() string { return s.endpoint }

// URL implements store.Store.
func (s *Store) URL() string { return s.url }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: s.name(key)})
	if err != nil {
		return store.Object{}, s.fault(ctx, "read", key, err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, store.MaxSize+1))
	switch {
	case err != nil:
		return store.Object{}, s.fault(ctx, "read", key, err)
	case len(data) > store.MaxSize:
		return store.Object{}, fmt.Errorf("read %s: larger than %d bytes; not a state store's object", store.Where(s, key), store.MaxSize)
	}
	return store.Object{Key: key, Data: data, Version: store.Version(aws.ToString(out.ETag))}, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := store.CheckKey(key); err != nil {
		return "", err
	}
	id := rand.Text()
	in := &s3.PutObjectInput{
		Bucket: &s.bucket, Key: s.name(key), Body: bytes.NewReader(data),
		Metadata: map[string]string{writeID: id},
	}
	switch old {
	case store.Any:
	case store.Absent:
		in.IfNoneMatch = aws.String("*")
	default:
		in.IfMatch = aws.String(string(old))
	}
	out, err := s.client.PutObject(ctx, in)
	if err == nil {
		return store.Version(aws.ToString(out.ETag)), nil
	}
	err = s.fault(ctx, "write", key, err)
	var fault *store.Fault // a missing bucket
	if old != store.Absent && old != store.Any && errors.Is(err, store.ErrNotFound) && !errors.As(err, &fault) {
		return "", fmt.Errorf("write %s: %w", store.Where(s, key), store.ErrConflict)
	}
	if errors.Is(err, store.ErrConflict) {
		if v, ok := s.ownWrite(ctx, key, id); ok {
			return v, nil
		}
	}
	return "", err
}

// ownWrite reports whether the current object is the result of this very write: the response to an earlier attempt was
// lost, and the precondition of the retry failed on our own object.
func (s *Store) ownWrite(ctx context.Context, key, id string) (store.Version, bool) {
	head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.name(key)})
	if err != nil || head.Metadata[writeID] != id {
		return "", false
	}
	return store.Version(aws.ToString(head.ETag)), true
}

// Delete implements store.Store. The protocol does not report whether the object existed, so that is checked first.
func (s *Store) Delete(ctx context.Context, key string, old store.Version) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	if _, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.name(key)}); err != nil {
		return s.fault(ctx, "delete", key, err)
	}
	in := &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.name(key)}
	switch old {
	case store.Any:
	case store.Absent: // it exists
		return fmt.Errorf("delete %s: %w", store.Where(s, key), store.ErrConflict)
	default:
		in.IfMatch = aws.String(string(old))
	}
	if _, err := s.client.DeleteObject(ctx, in); err != nil {
		return s.fault(ctx, "delete", key, err)
	}
	return nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	return s.list(ctx, prefix, "")
}

// Names implements store.Store.
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	keys, err := s.list(ctx, prefix, "/")
	for i, key := range keys {
		key = strings.TrimSuffix(key, "/")
		keys[i] = key[strings.LastIndex(key, "/")+1:]
	}
	slices.Sort(keys)
	return slices.Compact(keys), err
}

// list returns the keys below prefix and, with a delimiter, the common prefixes.
func (s *Store) list(ctx context.Context, prefix, delimiter string) ([]string, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, err
	}
	fullPrefix := s.prefix
	if prefix != "" {
		fullPrefix += prefix + "/"
	}
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &fullPrefix}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	var keys []string
	for pages := s3.NewListObjectsV2Paginator(s.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.fault(ctx, "list", prefix, err)
		}
		for _, o := range page.Contents {
			// Some tools create empty objects as folders; they are not kOps's.
			if key := aws.ToString(o.Key); !strings.HasSuffix(key, "/") {
				keys = append(keys, strings.TrimPrefix(key, s.prefix))
			}
		}
		for _, p := range page.CommonPrefixes {
			keys = append(keys, strings.TrimPrefix(aws.ToString(p.Prefix), s.prefix))
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (s *Store) name(key string) *string { return aws.String(s.prefix + key) }
