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
	attempts       = 6
	firstPause     = 200 * time.Millisecond
	lastPause      = 5 * time.Second
)

// request is one call of the API, repeatable.
type request struct {
	method, url string
	kind        string // content type
	body        []byte
}

// client sends requests, and again what a moment may mend. Every call that it
// is used for may be repeated: writes carry a precondition, or may overwrite.
type client struct {
	http  *http.Client
	pause time.Duration // before the second attempt; zero means firstPause
}

// answerError is an answer that is no success.
type answerError struct {
	status  int
	message string
}

func (e *answerError) Error() string {
	return fmt.Sprintf("the server answers %d %s: %s", e.status, http.StatusText(e.status), e.message)
}

// transient are the statuses that Google says to repeat.
func (e *answerError) transient() bool {
	return e.status == http.StatusRequestTimeout || e.status == http.StatusTooManyRequests || e.status >= http.StatusInternalServerError
}

// do returns the body and the header of a success.
func (c *client) do(ctx context.Context, r request) ([]byte, http.Header, error) {
	pause := c.pause
	if pause == 0 {
		pause = firstPause
	}
	for attempt := 1; ; attempt++ {
		body, header, err := c.once(ctx, r)
		if err == nil || attempt == attempts || ctx.Err() != nil || !repeatable(err) {
			return body, header, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		pause = min(2*pause, lastPause)
	}
}

func repeatable(err error) bool {
	var a *answerError
	if errors.As(err, &a) {
		return a.transient()
	}
	var token *oauth2.RetrieveError
	return !errors.As(err, &token)
}

func (c *client) once(ctx context.Context, r request) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
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
		return nil, nil, &answerError{status: res.StatusCode, message: message(body)}
	case len(body) > store.MaxSize:
		return nil, nil, &answerError{status: res.StatusCode, message: fmt.Sprintf("larger than %d bytes; not a state store's object", store.MaxSize)}
	}
	return body, res.Header, nil
}

// message reads Google's own words, or the beginning of whatever came.
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
