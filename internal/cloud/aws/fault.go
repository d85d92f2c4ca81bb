package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/muster-dev/muster/internal/cloud"
)

// denied are AWS's error codes for missing, wrong, expired or insufficient credentials, with a hint unless the code is
// clear.
var denied = map[string]string{
	"AccessDenied":                "",
	"AccessDeniedException":       "",
	"UnauthorizedOperation":       "",
	"UnauthorizedAccess":          "",
	"OptInRequired":               "",
	"MissingAuthenticationToken":  "",
	"IncompleteSignature":         "",
	"AuthFailure":                 "check the access key and the machine's clock",
	"SignatureDoesNotMatch":       "check the secret key and the machine's clock",
	"RequestExpired":              "check the machine's clock",
	"InvalidSignatureException":   "check the secret key and the machine's clock",
	"ExpiredToken":                "the session has expired; log in again",
	"ExpiredTokenException":       "the session has expired; log in again",
	"TokenRefreshRequired":        "the session has expired; log in again",
	"UnrecognizedClientException": "AWS does not know the access key",
	"InvalidClientTokenId":        "AWS does not know the access key",
	"InvalidAccessKeyId":          "AWS does not know the access key",
}

// explain turns the SDK's error into one line with its kind. last is the error of the last attempt, or nil; it is more
// useful than that of the deadline.
func explain(a action, err, last error) error {
	var (
		api      smithy.APIError
		response *awshttp.ResponseError
		dns      *net.DNSError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: interrupted: %w", a, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded) && last != nil:
		return fmt.Errorf("%w within the deadline", explain(a, last, nil))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w within the deadline", a, cloud.ErrTransient)
	case errors.As(err, &api):
		return explainAPI(a, api, err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("%s: no such host %s; is the region right? %w", a, dns.Name, cloud.ErrUsage)
	case errors.As(err, &response) && response.HTTPStatusCode() != 0:
		if s := response.HTTPStatusCode(); s == http.StatusForbidden || s == http.StatusUnauthorized {
			return fmt.Errorf("%s: %s: %w", a, http.StatusText(s), cloud.ErrDenied)
		}
		return fmt.Errorf("%s: status %d: %w", a, response.HTTPStatusCode(), cloud.ErrTransient)
	}
	return fmt.Errorf("%s: %s: %w", a, cause(err), cloud.ErrTransient)
}

// explainAPI turns an error response into one line with its kind.
func explainAPI(a action, api smithy.APIError, err error) error {
	message, status := oneLine(api.ErrorMessage()), 0
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	code := api.ErrorCode()
	hint, isDenied := denied[code]
	switch {
	case isDenied:
		return fmt.Errorf("%s: %s (%d): %s: %w", a, code, status, cmp.Or(hint, message), cloud.ErrDenied)
	case isThrottle(code):
		return fmt.Errorf("%s: throttled (%s): %w", a, code, cloud.ErrTransient)
	case strings.HasSuffix(code, "NotFound"), strings.HasSuffix(code, "NotFoundException"), code == "NoSuchEntity":
		return fmt.Errorf("%s: %s: %w", a, message, cloud.ErrNotFound)
	}
	switch {
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests:
		return fmt.Errorf("%s: status %d (%s): %w", a, status, code, cloud.ErrTransient)
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return fmt.Errorf("%s: %s (%d): %s: %w", a, code, status, message, cloud.ErrDenied)
	}
	return fmt.Errorf("%s: %s: %s: %w", a, code, message, cloud.ErrUsage)
}

func isThrottle(code string) bool {
	_, ok := retry.DefaultThrottleErrorCodes[code]
	return ok
}

// cause returns the innermost error's text: the SDK's wrappers repeat themselves.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return oneLine(err.Error())
		}
		err = inner
	}
}

// oneLine limits AWS's messages to one line, without the encoded message that EC2 appends to denials.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, " Encoded authorization failure message")
	s = strings.Join(strings.Fields(s), " ")
	const limit = 240
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}
