package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/muster-dev/muster/internal/store"
)

// fault gives an error its kind and, where the user can correct it, the remedy. The key is empty for the store as a
// whole.
func (s *Store) fault(ctx context.Context, verb, key string, err error) error {
	where := s.url
	if key != "" {
		where = store.Where(s, key)
	}
	var api smithy.APIError
	code, message := "", ""
	if errors.As(err, &api) {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	status := statusOf(err)
	switch code {
	case "NoSuchBucket":
		return s.noBucket(err)
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired":
		return &store.Fault{Where: s.url, What: "the credentials have expired", Next: "log in again (aws sso login, or a new session), then repeat the command", Err: store.ErrDenied}
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "UnrecognizedClientException":
		return &store.Fault{Where: s.url, What: fmt.Sprintf("the server does not know these credentials (%s)", code), Next: "check AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY with S3_ENDPOINT", Err: store.ErrDenied}
	case "RequestTimeTooSkewed":
		return &store.Fault{Where: s.url, What: "this machine's clock is wrong", Next: "set it, then repeat the command", Err: store.ErrDenied}
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return &store.Fault{Where: s.url, What: fmt.Sprintf("the bucket is not in region %s%s", s.region, regionHint(message)), Next: "set AWS_REGION, or S3_REGION with S3_ENDPOINT, to the bucket's region", Err: err}
	case "NotImplemented":
		return fmt.Errorf("%s %s: %w: %s", verb, where, store.ErrUnsupported, message)
	}
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()): // a request's own timeout is transient
		return fmt.Errorf("%s %s: %w", verb, where, err)
	case code == "AccessDenied" || status == http.StatusForbidden:
		return &store.Fault{Where: where, What: verb + " is denied", Next: "allow " + permissionFor(verb) + " on the bucket to these credentials", Err: store.ErrDenied}
	case code == "NoSuchKey" || status == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrNotFound)
	case status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrConflict)
	case status == http.StatusNotImplemented:
		return fmt.Errorf("%s %s: %w", verb, where, store.ErrUnsupported)
	case status == 0 || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		return fmt.Errorf("%s %s: %w: %w", verb, where, store.ErrTransient, unwrapSDK(err))
	default:
		return fmt.Errorf("%s %s: %w", verb, where, unwrapSDK(err))
	}
}

// regionHint returns the region that some servers name in their message.
func regionHint(message string) string {
	if _, expecting, ok := strings.Cut(message, "expecting "); ok {
		return ", but in " + strings.Trim(expecting, "'\" .")
	}
	return ""
}

func permissionFor(verb string) string {
	switch verb {
	case "write":
		return "s3:PutObject"
	case "delete":
		return "s3:DeleteObject"
	case "list":
		return "s3:ListBucket"
	default:
		return "s3:GetObject and s3:ListBucket"
	}
}

func (s *Store) noBucket(err error) error {
	return &store.Fault{
		Where: s.url, What: fmt.Sprintf("there is no bucket %q", s.bucket),
		Next: "correct --state or KOPS_STATE_STORE", Err: errors.Join(store.ErrNotFound, err),
	}
}

func (s *Store) noCredentials(err error) error {
	f := &store.Fault{
		Where: s.url, What: "no credentials (tried environment, profile, instance)",
		Next: "set AWS_PROFILE, or run with --state file://...", Err: store.ErrDenied,
	}
	if err != nil && strings.Contains(err.Error(), "expired") {
		f.What, f.Next = "the credentials have expired", "log in again with aws sso login, then repeat the command"
	}
	return f
}

// unwrapSDK returns the cause of an error without the SDK's wrappers.
func unwrapSDK(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api
	}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
