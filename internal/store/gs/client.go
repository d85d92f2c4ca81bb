package gs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/muster-dev/muster/internal/store"
)

const (
	requestTimeout = time.Minute
	maxAttempts    = 6
	minBackoff     = 200 * time.Millisecond
	maxBackoff     = 5 * time.Second
)

// request is one call of the API that can be repeated.
type request struct {
	method, url string
	contentType string
	body        []byte
}

// client sends requests and retries transient failures. All requests may be repeated: writes carry a precondition, or
// may overwrite.
type client struct {
	http    *http.Client
	backoff time.Duration // before the first retry; zero means minBackoff
}

// statusError is an unsuccessful response.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answers %d %s: %s", e.status, http.StatusText(e.status), e.message)
}

// transient reports the statuses that Google documents as retryable.
func (e *statusError) transient() bool {
	return e.status == http.StatusRequestTimeout || e.status == http.StatusTooManyRequests || e.status >= http.StatusInternalServerError
}

// do sends a request, with retries, and returns the body and header of a successful response.
func (c *client) do(ctx context.Context, r request) ([]byte, http.Header, error) {
	backoff := c.backoff
	if backoff == 0 {
		backoff = minBackoff
	}
	for attempt := 1; ; attempt++ {
		body, header, err := c.attempt(ctx, r)
		if err == nil || attempt == maxAttempts || ctx.Err() != nil || !retryable(err) {
			return body, header, err
		}
		select {
		case <-time.After(backoff/2 + rand.N(backoff)):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func retryable(err error) bool {
	var a *statusError
	if errors.As(err, &a) {
		return a.transient()
	}
	var token *oauth2.RetrieveError
	return !errors.As(err, &token)
}

func (c *client) attempt(ctx context.Context, r request) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, store.MaxSize+1))
	switch {
	case err != nil:
		return nil, nil, err
	case res.StatusCode/100 != 2:
		return nil, nil, &statusError{status: res.StatusCode, message: message(body)}
	case len(body) > store.MaxSize:
		return nil, nil, &statusError{status: res.StatusCode, message: fmt.Sprintf("larger than %d bytes; not a state store's object", store.MaxSize)}
	}
	return body, res.Header, nil
}

// message returns Google's error message, or the beginning of the body.
func message(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error.Message != "" {
		return e.Error.Message
	}
	return fmt.Sprintf("%.80q", body)
}
