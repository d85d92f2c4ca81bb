// Package rest is the HTTP under the providers whose cloud speaks JSON: a
// [Transport] that goes below a vendor's client, refuses whatever is no read,
// tries again what is transient, tells the kinds of failure apart the same way
// for every vendor, and writes each call down.
//
// It knows no vendor: which path is which call, and what permission that takes,
// is the [Route] table of the provider. It is no client either; paging and
// decoding are the vendor's SDK's.
//
// Invariants: a request that no table names and that is not a GET or a HEAD
// never leaves; what a caller gets is either a whole body of a good answer or an
// [Error]; credentials of a request never stand in its error or its record.
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
	// maxBackoff is the longest wait between attempts unless the vendor asks for
	// more.
	maxBackoff = 10 * time.Second
	// maxBody bounds one answer, in bytes. A page of 500 instances with their
	// user-data has about 20 MiB.
	maxBody = 64 << 20
)

// Transport is an [http.RoundTripper] for reading. It is safe for concurrent
// use and is not changed once it is used.
type Transport struct {
	// Base carries the requests. Nil: a clone of [http.DefaultTransport].
	Base http.RoundTripper
	// Routes name the calls. The first that matches counts; a GET that none
	// matches is recorded by its path.
	Routes []Route
	// Backoff is the first wait after a transient failure; it doubles each time,
	// up to 10 s, and half of it is random. 0: 250 ms.
	Backoff time.Duration
	// Attempt is how long one attempt may take, body included. 0: 20 s. Shorter
	// than the server needs: every attempt fails until the context ends.
	Attempt time.Duration
	// Throttled recognises a vendor that says "slow down" with another status
	// than 429. Nil: none does.
	Throttled func(status int, body []byte) bool
	// Secrets never stand in an error, beside the credentials that a request
	// carries in its headers: a password that goes out in a body, for example.
	Secrets []string
}

// RoundTrip implements [http.RoundTripper]. It returns a good answer with its
// body read, or an error that wraps an [Error].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	route, known := t.route(req)
	if !known && req.Method != http.MethodGet && req.Method != http.MethodHead {
		closeBody(req)
		return nil, &Error{Action: route.Action, Kind: cloud.ErrUsage, Message: "refused: not a read"}
	}
	start := time.Now()
	resp, err := t.persist(req, route)
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

// persist tries until there is an answer, a final refusal, or the context ends.
func (t *Transport) persist(req *http.Request, route Route) (*http.Response, error) {
	ctx := req.Context()
	for attempt := 0; ; attempt++ {
		r, err := again(req, attempt)
		if err != nil {
			return nil, &Error{Action: route.Action, Kind: cloud.ErrUsage, Message: "the request cannot be sent twice", Err: err}
		}
		resp, failure, wait := t.once(r, route)
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

// once makes one attempt. The last result is how long the vendor asks to wait.
func (t *Transport) once(req *http.Request, route Route) (*http.Response, *Error, time.Duration) {
	limit := t.Attempt
	if limit <= 0 {
		limit = DefaultAttempt
	}
	ctx, cancel := context.WithTimeout(req.Context(), limit)
	defer cancel()
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, &Error{Action: route.Action, Kind: cloud.ErrTransient, Err: bare(err)}, 0
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	resp.Body.Close()
	if err != nil {
		return nil, &Error{Action: route.Action, Kind: cloud.ErrTransient, Message: "the answer broke off", Err: bare(err)}, 0
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
		// secrets go before the text is cut, or a part of one might stay
		Message: oneLine(Without(message(body), append(credentials(req), t.Secrets...)...)),
	}
	if errors.Is(kind, cloud.ErrDenied) && route.Permission != "" && !route.Login {
		failure.Needs = route.Permission
	}
	return nil, failure, retryAfter(resp.Header)
}

// wait is how long to wait after attempt n, the first being 0.
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

// again returns the request for attempt n with a body of its own.
func again(req *http.Request, n int) (*http.Request, error) {
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

// retryAfter reads the header's seconds; a date is not worth trusting a clock.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}

// resource is what a request asks for, without what may be secret in a body.
func resource(req *http.Request) string {
	if req.URL.RawQuery == "" {
		return req.URL.Path
	}
	return req.URL.Path + "?" + req.URL.RawQuery
}
