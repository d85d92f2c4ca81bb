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

// Error is why a call failed, on one line. It is one of the kinds of
// [cloud.ErrNotFound] and its like for [errors.Is].
type Error struct {
	Action  string // the call, as its [Route] names it
	Status  int    // of HTTP; 0 if there was no answer
	Message string // the vendor's, without credentials
	Needs   string // the permission that a denied call takes
	Kind    error
	Err     error // what happened below HTTP
	Ended   error // the context's error, if it ended the attempts
}

// Error says which call failed and how.
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

// Classify returns err as what was attempted, with a kind: the one of the
// [Error] inside it, or the one that fits what a vendor's client makes of a
// broken answer or an ended context. Nil stays nil.
func Classify(attempt string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return fmt.Errorf("%s: %w", attempt, e) // without the layers of the SDK, which repeat the URL
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

// bare takes the URL off an error of net/http, which names it already.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// message finds the vendor's words in an error body: the first text called
// message, error_description, detail or error, at any depth of three.
func message(body []byte) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		if strings.HasPrefix(strings.TrimSpace(string(body)), "<") {
			return "" // a proxy's page says nothing on one line
		}
		return string(body)
	}
	for _, key := range []string{"message", "error_description", "detail", "error"} {
		if s := find(v, key, 3); s != "" {
			return s
		}
	}
	return ""
}

func find(v any, key string, depth int) string {
	m, ok := v.(map[string]any)
	if !ok || depth == 0 {
		return ""
	}
	if s, ok := m[key].(string); ok {
		return s
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if s := find(m[name], key, depth-1); s != "" {
			return s
		}
	}
	return ""
}

// oneLine is a text on one line of at most 200 bytes.
func oneLine(s string) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
