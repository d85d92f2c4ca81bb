// Package azureblob is a state store in a container of Azure Blob Storage.
//
// An object's version is its ETag; writes and deletes carry If-Match or If-None-Match. Each write has a unique identifier
// in the object's metadata, so that a write whose response was lost is recognised as our own.
package azureblob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/muster-dev/muster/internal/store"
)

const (
	// writeID is the metadata key of a write's identifier. Azure requires keys to be C# identifiers.
	writeID = "musterwrite"

	maxAttempts    = 6
	maxBackoff     = 5 * time.Second
	requestTimeout = time.Minute
	openTimeout    = 30 * time.Second
)

// Config identifies the container and how to reach it.
type Config struct {
	// Account, Container and Prefix are the base; the prefix may be empty.
	Account   string
	Container string
	Prefix    string
	// Endpoint is the URL of an account on an emulator, used without credentials. Empty means Azure, with its default
	// credential chain.
	Endpoint string
	// MinBackoff is the delay before the first retry; it grows up to 5 s. Zero means 200 ms.
	MinBackoff time.Duration
}

// Store is a store in a container. Make one with [Open].
type Store struct {
	client    *container.Client
	account   string
	container string
	prefix    string // empty, or ends in a slash
	url       string
}

// Open finds credentials and checks that the container exists.
func Open(ctx context.Context, c Config) (*Store, error) {
	s := &Store{account: c.Account, container: c.Container, url: "azureblob://" + c.Account + "/" + c.Container}
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		s.prefix = c.Prefix + "/"
		s.url += "/" + c.Prefix
	}
	if c.MinBackoff == 0 {
		c.MinBackoff = 200 * time.Millisecond
	}
	o := &container.ClientOptions{ClientOptions: clientOptions(c.MinBackoff)}
	var err error
	if c.Endpoint != "" {
		s.client, err = container.NewClientWithNoCredential(strings.TrimSuffix(c.Endpoint, "/")+"/"+c.Container, o)
	} else {
		var credential azcore.TokenCredential
		if credential, err = azidentity.NewDefaultAzureCredential(nil); err != nil {
			return nil, s.noCredentials()
		}
		s.client, err = container.NewClient("https://"+c.Account+".blob.core.windows.net/"+c.Container, credential, o)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.url, err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	one := int32(1)
	if _, err := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &s.prefix, MaxResults: &one}).NextPage(ctx); err != nil {
		return nil, s.fault(ctx, "list", "", err)
	}
	return s, nil
}

func clientOptions(minBackoff time.Duration) policy.ClientOptions {
	return policy.ClientOptions{
		Retry: policy.RetryOptions{
			MaxRetries: maxAttempts - 1, TryTimeout: requestTimeout, RetryDelay: minBackoff, MaxRetryDelay: maxBackoff,
		},
		PerRetryPolicies: []policy.Policy{bodyPerAttempt{}},
	}
}

// bodyPerAttempt is a policy that gives each attempt at a request a reader of its own. A transport may read a request's
// body after it has returned the response (net/http.RoundTripper), and the SDK rewinds one reader for all attempts: a
// server that answers early would have two attempts share out the bytes of one object.
type bodyPerAttempt struct{}

// Do implements policy.Policy.
func (bodyPerAttempt) Do(req *policy.Request) (*http.Response, error) {
	if req.Body() != nil {
		data, err := io.ReadAll(req.Body())
		if err != nil {
			return nil, err
		}
		raw := req.Raw()
		raw.Body = io.NopCloser(bytes.NewReader(data))
		raw.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	return req.Next()
}

// URL implements store.Store.
func (s *Store) URL() string { return s.url }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, err
	}
	res, err := s.blob(key).DownloadStream(ctx, nil)
	if err != nil {
		return store.Object{}, s.fault(ctx, "read", key, err)
	}
	body := res.NewRetryReader(ctx, nil) // resumes after a broken connection
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, store.MaxSize+1))
	switch {
	case err != nil:
		return store.Object{}, s.fault(ctx, "read", key, err)
	case len(data) > store.MaxSize:
		return store.Object{}, fmt.Errorf("read %s: larger than %d bytes; not a state store's object", store.Where(s, key), store.MaxSize)
	case res.ETag == nil:
		return store.Object{}, fmt.Errorf("read %s: the answer has no ETag; something between here and the server drops headers", store.Where(s, key))
	}
	return store.Object{Key: key, Data: data, Version: store.Version(*res.ETag)}, nil
}

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Version) (store.Version, error) {
	if err := store.CheckKey(key); err != nil {
		return "", err
	}
	id := rand.Text()
	res, err := s.blob(key).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
		Metadata: map[string]*string{writeID: &id}, AccessConditions: condition(old),
	})
	if err == nil && res.ETag != nil {
		return store.Version(*res.ETag), nil
	}
	if err == nil {
		return "", fmt.Errorf("write %s: %w: the answer has no ETag", store.Where(s, key), store.ErrTransient)
	}
	err = s.fault(ctx, "write", key, err)
	if old != store.Absent && old != store.Any && isMissing(err) {
		return "", fmt.Errorf("write %s: %w", store.Where(s, key), store.ErrConflict)
	}
	if errors.Is(err, store.ErrConflict) {
		if v, ok := s.ownWrite(ctx, key, id); ok {
			return v, nil
		}
	}
	return "", err
}

// isMissing tells a missing object from a missing container.
func isMissing(err error) bool {
	var fault *store.Fault
	return errors.Is(err, store.ErrNotFound) && !errors.As(err, &fault)
}

// ownWrite reports whether the current object is the result of this very write: the response to an earlier attempt was
// lost, and the precondition of the retry failed on our own object.
func (s *Store) ownWrite(ctx context.Context, key, id string) (store.Version, bool) {
	res, err := s.blob(key).GetProperties(ctx, nil)
	if err != nil || res.ETag == nil {
		return "", false
	}
	for name, value := range res.Metadata { // the case of headers is not preserved
		if strings.EqualFold(name, writeID) && value != nil && *value == id {
			return store.Version(*res.ETag), true
		}
	}
	return "", false
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, old store.Version) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	if old == store.Absent { // Azure would delete only an absent object, which is never
		if _, err := s.Get(ctx, key); err != nil {
			return err
		}
		return fmt.Errorf("delete %s: %w", store.Where(s, key), store.ErrConflict)
	}
	if _, err := s.blob(key).Delete(ctx, &blob.DeleteOptions{AccessConditions: condition(old)}); err != nil {
		return s.fault(ctx, "delete", key, err)
	}
	return nil
}

func condition(old store.Version) *blob.AccessConditions {
	etag, anything := azcore.ETag(old), azcore.ETagAny
	switch old {
	case store.Any:
		return nil
	case store.Absent:
		return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &anything}}
	default:
		return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &etag}}
	}
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	fullPrefix, err := s.fullPrefix(prefix)
	if err != nil {
		return nil, err
	}
	var keys []string
	for pages := s.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &fullPrefix}); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.fault(ctx, "list", prefix, err)
		}
		for _, b := range page.Segment.BlobItems {
			keys = append(keys, strings.TrimPrefix(*b.Name, s.prefix))
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// Names implements store.Store.
func (s *Store) Names(ctx context.Context, prefix string) ([]string, error) {
	fullPrefix, err := s.fullPrefix(prefix)
	if err != nil {
		return nil, err
	}
	var names []string
	for pages := s.client.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &fullPrefix}); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.fault(ctx, "list", prefix, err)
		}
		for _, b := range page.Segment.BlobItems {
			names = append(names, strings.TrimPrefix(*b.Name, fullPrefix))
		}
		for _, p := range page.Segment.BlobPrefixes {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(*p.Name, fullPrefix), "/"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s *Store) fullPrefix(prefix string) (string, error) {
	if prefix == "" {
		return s.prefix, nil
	}
	return s.prefix + prefix + "/", store.CheckPrefix(prefix)
}

func (s *Store) blob(key string) *blockblob.Client {
	return s.client.NewBlockBlobClient(s.prefix + key)
}

func (s *Store) noCredentials() error {
	return &store.Fault{
		Where: s.url, What: "no credentials (tried environment, managed identity, az)",
		Next: "run az login, or run with --state file://...", Err: store.ErrDenied,
	}
}

// fault gives an error its kind and, where the user can correct it, the remedy.
func (s *Store) fault(ctx context.Context, verb, key string, err error) error {
	where := s.url
	if key != "" {
		where = store.Where(s, key)
	}
	var unauthenticated *azidentity.AuthenticationFailedError
	var lookup *net.DNSError
	var response *azcore.ResponseError
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()): // an attempt's own timeout is transient
		return fmt.Errorf("%s %s: %w", verb, where, err)
	case errors.As(err, &unauthenticated), strings.Contains(err.Error(), "DefaultAzureCredential:"):
		return s.noCredentials()
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return &store.Fault{Where: s.url, What: fmt.Sprintf("there is no storage account %q", s.account), Next: "write the state store as azureblob://account/container", Err: store.ErrNotFound}
	case !errors.As(err, &response):
		return fmt.Errorf("%s %s: %w: %w", verb, where, store.ErrTransient, err)
	}
	switch status := response.StatusCode; {
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return &store.Fault{Where: s.url, What: fmt.Sprintf("there is no container %q in account %q", s.container, s.account), Next: "correct --state or KOPS_STATE_STORE", Err: store.ErrNotFound}
	case status == http.StatusUnauthorized, bloberror.HasCode(err, bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo):
		return &store.Fault{Where: s.url, What: fmt.Sprintf("the credentials are not accepted (%s)", response.ErrorCode), Next: "run az login, then repeat the command", Err: store.ErrDenied}
	case status == http.StatusForbidden:
		return &store.Fault{Where: where, What: verb + " is denied", Next: "give these credentials the role Storage Blob Data Contributor on the container (Reader to read)", Err: store.ErrDenied}
	case status == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrNotFound)
	case status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrConflict)
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return fmt.Errorf("%s %s: %w: the server answers %d %s", verb, where, store.ErrTransient, status, response.ErrorCode)
	default:
		return fmt.Errorf("%s %s: the server answers %d %s", verb, where, status, response.ErrorCode)
	}
}
