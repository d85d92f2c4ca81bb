// Package rest is the HTTP transport of the providers whose cloud has a JSON API. A [Transport] is used by a vendor's
// client; it rejects requests that are not reads, retries transient failures, classifies errors alike for every vendor, and
// records each call.
//
// It knows no vendor: the provider's [Route] table says which path is which call and what permission it needs. It is not a
// client: paging and decoding are the SDK's.
//
// Invariants: a request that is in no table and is not a GET or HEAD is never sent; the result is either a successful
// response with a complete body or an [Error]; a request's credentials are never part of its error or record.
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/cloud"
)

// Defaults of a [Transport].
const (
	DefaultBackoff = 250 * time.Millisecond
	DefaultAttempt = 20 * time.Second
	// maxBackoff is the longest wait between attempts, unless Retry-After is longer.
	maxBackoff = 10 * time.Second
	// maxBody bounds a response, in bytes. A page of 500 instances with user-data has about 20 MiB.
	maxBody = 64 << 20
)

// Transport is a read-only [http.RoundTripper]. It is safe for concurrent use; its fields must not change after the first
// request.
type Transport struct {
	// Base sends the requests. Nil: [http.DefaultTransport].
	Base http.RoundTripper
	// Routes name the calls. The first match applies; a GET without a match is recorded by its path.
	Routes []Route
	// Backoff is the first wait after a transient failure; it doubles each time,
	// up to 10 s, and half of it is random. 0: 250 ms.
	Backoff time.Duration
	// Attempt is the timeout of one attempt, including the body. 0: 20 s. If it is shorter than the server needs, every
	// attempt fails until the context ends.
	Attempt time.Duration
	// Throttled recognises responses that mean throttling with another status than 429. Nil: none.
	Throttled func(status int, body []byte) bool
	// Secrets are redacted in errors, in addition to the credentials in a request's headers: a password in a body, for
	// example.
	Secrets []string
}

// RoundTrip implements [http.RoundTripper]. It returns a successful response with its body read, or an error that wraps an
// [Error].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	route, known := t.route(req)
	if !known && req.Method != http.MethodGet && req.Method != http.MethodHead {
		closeBody(req)
		return nil, &Error{Action: route.Action, Kind: cloud.ErrUsage, Message: "refused: not a read"}
	}
	start := time.Now()
	resp, err := t.retry(req, route)
	call := cloud.Call{Action: route.Action, Resource: resource(req), Permission: route.Permission, Took: time.Since(start)}
	if err != nil {
		call.Err = err.Error()
	}
	record(req.Context(), call)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// retry makes attempts until one succeeds or fails permanently, or the context ends.
func (t *Transport) retry(req *http.Request, route Route) (*http.Response, error) {
	ctx := req.Context()
	for attempt := 0; ; attempt++ {
		r, err := rewind(req, attempt)
		if err != nil {
			return nil, &Error{Action: route.Action, Kind: cloud.ErrUsage, Message: "the request cannot be sent twice", Err: err}
		}
		resp, failure, wait := t.attempt(r, route)
		if failure == nil {
			return resp, nil
		}
		if !errors.Is(failure, cloud.ErrTransient) {
			return nil, failure
		}
		timer := time.NewTimer(max(wait, t.wait(attempt)))
		select {
		case <-ctx.Done():
			timer.Stop()
			failure.Ended = ctx.Err()
			return nil, failure
		case <-timer.C:
		}
	}
}

// attempt makes one attempt. The last result is the Retry-After of a failure.
func (t *Transport) attempt(req *http.Request, route Route) (*http.Response, *Error, time.Duration) {
	timeout := t.Attempt
	if timeout <= 0 {
		timeout = DefaultAttempt
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, &Error{Action: route.Action, Kind: cloud.ErrTransient, Err: withoutURL(err)}, 0
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	resp.Body.Close()
	if err != nil {
		return nil, &Error{Action: route.Action, Kind: cloud.ErrTransient, Message: "the answer broke off", Err: withoutURL(err)}, 0
	}
	if len(body) > maxBody {
		return nil, &Error{Action: route.Action, Kind: cloud.ErrUsage, Message: fmt.Sprintf("the answer has more than %d MiB", maxBody>>20)}, 0
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	if resp.StatusCode < 400 {
		return resp, nil, 0
	}
	kind := kindOf(resp.StatusCode, route.Login)
	if t.Throttled != nil && t.Throttled(resp.StatusCode, body) {
		kind = cloud.ErrTransient
	}
	failure := &Error{
		Action: route.Action,
		Status: resp.StatusCode,
		Kind:   kind,
		// redact before the text is truncated, or part of a secret might stay
		Message: oneLine(Redact(message(body), append(credentials(req), t.Secrets...)...)),
	}
	if errors.Is(kind, cloud.ErrDenied) && route.Permission != "" && !route.Login {
		failure.Needs = route.Permission
	}
	return nil, failure, retryAfter(resp.Header)
}

// wait returns the backoff after attempt n, counted from 0.
func (t *Transport) wait(n int) time.Duration {
	d := t.Backoff
	if d <= 0 {
		d = DefaultBackoff
	}
	for range min(n, 16) {
		d = min(2*d, maxBackoff)
	}
	return d/2 + rand.N(d/2+1)
}

// rewind returns the request for attempt n with a fresh body.
func rewind(req *http.Request, n int) (*http.Request, error) {
	if n == 0 || req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("its body is a stream")
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	r := req.Clone(req.Context())
	r.Body = body
	return r, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// retryAfter returns the header in seconds, one hour at most. A date is ignored, since clocks may differ.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}

// resource returns the path and query of a request.
func resource(req *http.Request) string {
	if req.URL.RawQuery == "" {
		return req.URL.Path
	}
	return req.URL.Path + "?" + req.URL.RawQuery
}
