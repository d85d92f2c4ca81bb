package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
)

// Error is why a call failed, as one line. It wraps its kind: [cloud.ErrNotFound] and the like.
type Error struct {
	Action  string // the call, as its [Route] names it
	Status  int    // HTTP status; 0 without a response
	Message string // the vendor's, without credentials
	Needs   string // the permission that a denied call needs
	Kind    error
	Err     error // the error below HTTP
	Ended   error // the context's error, if it ended the attempts
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Action)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Needs != "" {
		b.WriteString(" (needs " + e.Needs + ")")
	}
	if e.Ended != nil {
		fmt.Fprintf(&b, ", and no time was left (%v)", e.Ended)
	}
	return b.String()
}

// Unwrap returns the kind and the causes.
func (e *Error) Unwrap() (errs []error) {
	for _, err := range []error{e.Kind, e.Err, e.Ended} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func kindOf(status int, login bool) error {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status >= 500 && status != http.StatusNotImplemented:
		return cloud.ErrTransient
	case login, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return cloud.ErrDenied
	case status == http.StatusNotFound, status == http.StatusGone:
		return cloud.ErrNotFound
	}
	return cloud.ErrUsage
}

// Classify adds what was attempted and a kind to an error: the kind of the [Error] in it, or that of what an SDK returns for
// an invalid response or an ended context. Nil stays nil.
func Classify(attempt string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return fmt.Errorf("%s: %w", attempt, e) // without the SDK's wrappers, which repeat the URL
	}
	for _, kind := range []error{cloud.ErrNotFound, cloud.ErrDenied, cloud.ErrTransient, cloud.ErrUsage} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%s: %w", attempt, err)
		}
	}
	kind := cloud.ErrUsage
	var syntax *json.SyntaxError
	var mistyped *json.UnmarshalTypeError
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &syntax) || errors.As(err, &mistyped) || errors.As(err, &network) {
		kind = cloud.ErrTransient
	}
	return fmt.Errorf("%s: %w: %s", attempt, kind, oneLine(err.Error()))
}

// withoutURL unwraps a url.Error: Action names the call already.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// message extracts the vendor's message from an error body: the first string called message, error_description, detail or
// error, up to three levels deep.
func message(body []byte) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		if strings.HasPrefix(strings.TrimSpace(string(body)), "<") {
			return "" // a proxy's HTML page
		}
		return string(body)
	}
	for _, key := range []string{"message", "error_description", "detail", "error"} {
		if s := findText(v, key, 3); s != "" {
			return s
		}
	}
	return ""
}

func findText(v any, key string, depth int) string {
	m, ok := v.(map[string]any)
	if !ok || depth == 0 {
		return ""
	}
	if s, ok := m[key].(string); ok {
		return s
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if s := findText(m[name], key, depth-1); s != "" {
			return s
		}
	}
	return ""
}

// oneLine returns a text as one line of at most 200 bytes.
func oneLine(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
