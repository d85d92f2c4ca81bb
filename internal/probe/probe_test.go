package probe

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// answering is a server that answers /readyz with one status, and what trusts it.
func answering(t *testing.T, status int) (at netip.AddrPort, roots *x509.CertPool) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	roots = x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return netip.MustParseAddrPort(srv.Listener.Addr().String()), roots
}

func TestWhatCountsAsAnswered(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		err    string // part of it; empty if it is answered
	}{
		"a ready server":                          {200, ""},
		"a server that lets no stranger ask":      {401, ""},
		"a server that lets no stranger see this": {403, ""},
		"a server that is not ready":              {500, "readyz answered 500"},
		"a balancer without a server":             {503, "readyz answered 503"},
	} {
		t.Run(name, func(t *testing.T) {
			at, roots := answering(t, tt.status)
			err := Config{ServerName: "example.com", Roots: roots, Timeout: 5 * time.Second}.Once(t.Context(), Target{Path: LoadBalancer, Addr: at})
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v; want %q", err, tt.err)
			}
		})
	}
}

func TestTargetsAreDialled(t *testing.T) {
	at, roots := answering(t, 200)
	cfg := Config{ServerName: "api.internal.atlas.k8s.local", Roots: roots, Timeout: 5 * time.Second}
	for name, tt := range map[string]struct {
		target Target
		err    string
	}{
		"by a name that the system knows, under a server name of its own": {Target{Host: "localhost", Port: at.Port(), ServerName: "example.com"}, ""},
		"by address, under a name that the certificate lacks":             {Target{Addr: at}, "certificate is valid for"},
		"by a name that nobody knows":                                     {Target{Host: "nowhere.invalid", Port: at.Port()}, "nowhere.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			err := cfg.Once(t.Context(), tt.target)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v; want %q", err, tt.err)
			}
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	at, roots := answering(t, 200)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	seen := map[Path]int{}
	err := Watch(ctx, Config{ServerName: "example.com", Roots: roots, Interval: time.Millisecond, Targets: []Target{{Path: LoadBalancer, Addr: at}, {Path: "kubeconfig", Addr: at}}}, func(s Sample) error {
		mu.Lock()
		defer mu.Unlock()
		if !s.OK() {
			t.Errorf("%s: %s", s.Path, s.Err)
		}
		if seen[s.Path]++; len(seen) == 2 && seen[LoadBalancer] > 2 && seen["kubeconfig"] > 2 {
			cancel()
		}
		return nil
	})
	if err != nil || ctx.Err() == nil {
		t.Errorf("error %v; want none, after three of each", err)
	}
}
