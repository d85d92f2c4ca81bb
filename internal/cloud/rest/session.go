package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
)

// Session is a transport for one observation, for SDKs that make some requests, such as for tokens or endpoints, without the
// caller's context: they would never time out. It also keeps errors that such SDKs reduce to text. It is safe for concurrent
// use.
type Session struct {
	ctx  context.Context // of the observation
	next *Transport

	mu     sync.Mutex
	failed *Error // the latest, under mu
}

// Session returns a transport under which every request ends with ctx.
func (t *Transport) Session(ctx context.Context) *Session {
	return &Session{ctx: ctx, next: t}
}

// RoundTrip implements [http.RoundTripper].
func (s *Session) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, ok := req.Context().Deadline(); !ok {
		req = req.WithContext(s.ctx)
	}
	resp, err := s.next.RoundTrip(req)
	var e *Error
	if errors.As(err, &e) {
		s.mu.Lock()
		s.failed = e
		s.mu.Unlock()
	}
	return resp, err
}

// Classify is [Classify] for errors that an SDK may have reduced to their text.
func (s *Session) Classify(attempt string, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return Classify(attempt, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil && strings.Contains(err.Error(), s.failed.Error()) {
		return Classify(attempt, s.failed)
	}
	return Classify(attempt, err)
}
