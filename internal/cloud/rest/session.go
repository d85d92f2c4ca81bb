package rest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
)

// Session carries the requests of one look at a cloud, for clients that ask
// some things under no context of the caller's, such as where a service is or
// for a token: they would wait without an end otherwise. It also keeps what
// such clients lose of an error. It is safe for concurrent use.
type Session struct {
	ctx  context.Context // of the look; it outlives no call
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

// Classify is [Classify] for an error that may hold no more than the text of
// what happened below it.
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
