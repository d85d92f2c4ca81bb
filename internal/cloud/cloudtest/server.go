package cloudtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// fault is an injected failure of a [server].
type fault struct {
	service string // empty: every one
	status  int    // 0: no response
	times   int    // how often; 0: always
}

// server is a fake vendor with injected failures.
type server struct {
	*httptest.Server
	vendor Vendor
	inner  http.Handler

	mu       sync.Mutex
	faults   []fault        // under mu
	requests map[string]int // requests by service, under mu
}

func newServer(t testing.TB, v Vendor, w World, faults ...fault) *server {
	t.Helper()
	s := &server{vendor: v, inner: v.Serve(t, w), faults: faults, requests: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := s.next(s.vendor.Service(r))
	switch {
	case !ok:
		s.inner.ServeHTTP(w, r)
	case f.status == 0:
		<-r.Context().Done()
	default:
		// a vendor may echo the request, secrets included
		body, _ := io.ReadAll(r.Body)
		s.vendor.Fail(w, f.status, "no luck for "+r.Header.Get("Authorization")+r.Header.Get("X-Auth-Token")+string(body))
	}
}

func (s *server) next(service string) (fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[service]++
	for i := range s.faults {
		f := &s.faults[i]
		if f.service != "" && f.service != service || f.times < 0 {
			continue
		}
		current := *f
		if f.times == 1 {
			f.times = -1
		} else if f.times > 1 {
			f.times--
		}
		return current, true
	}
	return fault{}, false
}

func (s *server) count(service string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[service]
}
