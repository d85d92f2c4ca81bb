// Package open opens a state store by its URL. It has the only list of drivers, and is the only place that knows which
// environment variables kOps reads.
package open

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/azureblob"
	"github.com/muster-dev/muster/internal/store/file"
	"github.com/muster-dev/muster/internal/store/gs"
	"github.com/muster-dev/muster/internal/store/guard"
	"github.com/muster-dev/muster/internal/store/mem"
	"github.com/muster-dev/muster/internal/store/s3"
)

// Config configures how stores are opened.
type Config struct {
	// Getenv reads the environment. Nil means an empty one.
	Getenv func(string) string
	// Notice is called with warnings for the user, each once, during reads and writes but never concurrently. Nil discards
	// them.
	Notice func(string)
}

const knownSchemes = "file://, s3://, gs://, azureblob://, do://, linode://, hos://, scw://, memory://"

// Store opens the store with a URL as kOps spells it. Errors that the user can correct are a [*store.Fault].
func Store(ctx context.Context, where string, c Config) (store.Store, error) {
	if c.Getenv == nil {
		c.Getenv = func(string) string { return "" }
	}
	scheme, rest, ok := strings.Cut(where, "://")
	if !ok {
		return nil, &store.Fault{Where: fmt.Sprintf("%q", where), What: "is no state store", Next: "write it as kOps does, such as s3://kops-state; muster reads " + knownSchemes}
	}
	switch scheme {
	case "file":
		if rest == "" {
			return nil, &store.Fault{Where: where, What: "names no directory", Next: "write it as file:///path/to/state"}
		}
		return file.Open(rest)
	case "memory":
		return &mem.Store{Name: rest}, nil
	}
	bucket, prefix, err := splitBucket(where, rest)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "s3", "do", "linode", "hos", "scw":
		return openS3(ctx, c, s3.Config{Scheme: scheme, Bucket: bucket, Prefix: prefix})
	case "gs":
		return gs.Open(ctx, gs.Config{Bucket: bucket, Prefix: prefix, Endpoint: emulatorURL(c.Getenv("STORAGE_EMULATOR_HOST"))})
	case "azureblob":
		container, prefix, _ := strings.Cut(prefix, "/")
		if container == "" {
			return nil, &store.Fault{Where: where, What: "names no container", Next: "write it as azureblob://account/container or azureblob://account/container/path, as kOps does since 1.36"}
		}
		return azureblob.Open(ctx, azureblob.Config{Account: bucket, Container: container, Prefix: prefix})
	default:
		return nil, &store.Fault{Where: where, What: fmt.Sprintf("scheme %q is not one that muster knows", scheme), Next: "use one of " + knownSchemes}
	}
}

// splitBucket splits what follows the scheme into bucket and prefix.
func splitBucket(where, rest string) (bucket, prefix string, err error) {
	bucket, prefix, _ = strings.Cut(strings.Trim(rest, "/"), "/")
	if strings.Contains(rest, "@") { // it may be a password
		where = where[:strings.Index(where, "://")] + "://..."
	}
	if u, err := url.Parse("//" + bucket); bucket == "" || err != nil || u.Host != bucket || u.User != nil || strings.ContainsAny(rest, "?#") {
		return "", "", &store.Fault{Where: where, What: "names no bucket", Next: "write it as scheme://bucket, or scheme://bucket/path"}
	}
	if prefix != "" && store.CheckKey(prefix) != nil {
		return "", "", &store.Fault{Where: where, What: fmt.Sprintf("the path %q cannot be used", prefix), Next: "write it as scheme://bucket/path, without dots and double slashes"}
	}
	return bucket, prefix, nil
}

// emulatorURL returns the URL of an emulator; Google's tools allow a bare host.
func emulatorURL(host string) string {
	if host == "" || strings.Contains(host, "://") {
		return host
	}
	return "http://" + host
}

func openS3(ctx context.Context, c Config, s s3.Config) (store.Store, error) {
	where := s.Scheme + "://" + s.Bucket
	s.Endpoint = c.Getenv("S3_ENDPOINT")
	if s.Endpoint == "" {
		if s.Scheme != "s3" {
			return nil, &store.Fault{Where: where, What: "no server is named", Next: "set S3_ENDPOINT, S3_REGION, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, as for kOps"}
		}
		return openGuarded(ctx, c, s)
	}
	if !strings.Contains(s.Endpoint, "://") {
		s.Endpoint = "https://" + s.Endpoint
	}
	if u, err := url.Parse(s.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &store.Fault{Where: where, What: fmt.Sprintf("S3_ENDPOINT %q is no URL", s.Endpoint), Next: "write it as https://host"}
	}
	s.Region = c.Getenv("S3_REGION")
	s.AccessKey, s.SecretKey = c.Getenv("S3_ACCESS_KEY_ID"), c.Getenv("S3_SECRET_ACCESS_KEY")
	if (s.AccessKey == "") != (s.SecretKey == "") {
		return nil, &store.Fault{Where: where, What: "only one of S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY is set", Next: "set both, or none to use the AWS credentials", Err: store.ErrDenied}
	}
	return openGuarded(ctx, c, s)
}

// openGuarded opens a bucket. It does not trust servers other than Amazon's to honour preconditions.
func openGuarded(ctx context.Context, c Config, s s3.Config) (store.Store, error) {
	st, err := s3.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	if st.Endpoint() == "" {
		return st, nil
	}
	return guard.New(st, guard.Config{Notice: c.Notice}), nil
}
