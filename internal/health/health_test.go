package health_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is one that a healthy server meets even on a busy machine. What
// is about timeouts is tested in a bubble.
const timeout = 20 * time.Second

// start runs a checker of the given servers until the test ends.
func start(t *testing.T, cfg health.Config, servers ...netip.AddrPort) *health.Checker {
	t.Helper()
	c, err := health.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	c.SetTargets(servers)
	return c
}

// verdict waits for the first verdict on a server.
func verdict(t *testing.T, c *health.Checker, server netip.AddrPort) health.Result {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		if r := c.Results()[server]; r.Health != endpoint.Unknown {
			return r
		}
		select {
		case <-c.Changed():
		case <-deadline:
			t.Fatal("no verdict after 30 s")
		}
	}
}

// apiserver serves status on /readyz and 404 elsewhere.
func apiserver(t *testing.T, cert tls.Certificate, status int) netip.AddrPort {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != serverName {
			t.Errorf("asked for host %q, want %q", r.Host, serverName)
		}
		w.WriteHeader(status)
		w.Write(bytes.Repeat([]byte("[+]ping ok\n"), 30))
	})
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return addrOf(s.Listener)
}

func addrOf(ln net.Listener) netip.AddrPort { return ln.Addr().(*net.TCPAddr).AddrPort() }

// raw listens on loopback and hands each connection to serve.
func raw(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return addrOf(ln)
}

// hang reads until the other side hangs up and never answers.
func hang(conn net.Conn) {
	b := make([]byte, 1<<10)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

func TestVerdicts(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	serving := func(cert tls.Certificate, status int) func(*testing.T) netip.AddrPort {
		return func(t *testing.T) netip.AddrPort { return apiserver(t, cert, status) }
	}
	tests := []struct {
		name   string
		server func(*testing.T) netip.AddrPort
		health endpoint.Health
		reason string // what the reason must contain
	}{
		{"200 is up", serving(ca.good(), 200), endpoint.Up, "/readyz says 200"},
		{"401 is up and says that there is no more to learn", serving(ca.good(), 401), endpoint.Up, "/readyz says 401: answers, will not say more"},
		{"403 is up and says that there is no more to learn", serving(ca.good(), 403), endpoint.Up, "/readyz says 403: answers, will not say more"},
		{"503 is draining", serving(ca.good(), 503), endpoint.Draining, "/readyz says 503"},
		{"404 is down: something else answers there", serving(ca.good(), 404), endpoint.Down, "/readyz says 404"},
		{"a certificate of another authority is down", serving(other.good(), 200), endpoint.Down,
			"certificate: certificate signed by unknown authority"},
		{"a certificate of another name is down", serving(ca.server("db.internal", time.Now().Add(time.Hour)), 200), endpoint.Down,
			"certificate: certificate is valid for db.internal, not " + serverName},
		{"a certificate that has ended is down", serving(ca.server(serverName, time.Now().Add(-time.Hour)), 200), endpoint.Down,
			"only; now it is not, by this node's clock"},
		{"a refused connection is down", func(t *testing.T) netip.AddrPort {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln.Close()
			return addrOf(ln)
		}, endpoint.Down, "connect: connection refused"},
		{"a server that closes every connection is down", func(t *testing.T) netip.AddrPort {
			return raw(t, func(net.Conn) {})
		}, endpoint.Down, "tls handshake: con"},
		{"a server that speaks no TLS is down", func(t *testing.T) netip.AddrPort {
			return raw(t, func(conn net.Conn) {
				conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
				hang(conn)
			})
		}, endpoint.Down, "tls handshake: tls: first record does not look like a TLS handshake"},
		{"a server that speaks no HTTP is down", func(t *testing.T) netip.AddrPort {
			cert := ca.good()
			return raw(t, func(conn net.Conn) {
				c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				c.Write([]byte(strings.Repeat("nonsense ", 100) + "\r\n"))
				hang(c)
			})
		}, endpoint.Down, "/readyz: malformed HTTP"},
		{"a header without end is down", func(t *testing.T) netip.AddrPort {
			cert := ca.good()
			return raw(t, func(conn net.Conn) {
				c := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
				c.Write([]byte("HTTP/1.1 200 OK\r\nX-Endless: "))
				for {
					if _, err := c.Write(bytes.Repeat([]byte("a"), 4<<10)); err != nil {
						return
					}
				}
			})
		}, endpoint.Down, "/readyz: connection closed by the server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := tt.server(t)
			c := start(t, health.Config{ServerName: serverName, Roots: ca.pool(), Timeout: timeout}, server)
			got := verdict(t, c, server)
			if got.Health != tt.health || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("got %s because %q; want %s because %q", got.Health, got.Reason, tt.health, tt.reason)
			}
			if len(got.Reason) > 250 {
				t.Errorf("the reason has %d bytes; a stranger wrote it", len(got.Reason))
			}
			if got.Health == endpoint.Up && got.RTT <= 0 {
				t.Errorf("up with a round trip of %s", got.RTT)
			}
		})
	}
}

func TestClientCertificateIsPresented(t *testing.T) {
	ca := newAuthority(t)
	names := make(chan string, 100)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names <- r.TLS.PeerCertificates[0].DNSNames[0]
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.good()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	s.StartTLS()
	t.Cleanup(s.Close)

	mine := ca.server("node-1", time.Now().Add(time.Hour))
	server := addrOf(s.Listener)
	c := start(t, health.Config{
		ServerName:        serverName,
		Roots:             ca.pool(),
		Timeout:           timeout,
		ClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &mine, nil },
	}, server)
	if got := verdict(t, c, server); got.Health != endpoint.Up {
		t.Fatalf("got %s because %q, want up", got.Health, got.Reason)
	}
	if got := <-names; got != "node-1" {
		t.Errorf("presented %q, want node-1", got)
	}
}

// Certificates are renewed, and may come after the daemon: the kubelet's does.
func TestAServerThatDoesNotKnowTheNodeIsShownItsCertificateAgain(t *testing.T) {
	ca := newAuthority(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusUnauthorized
		if len(r.TLS.PeerCertificates) > 0 {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.good()}, ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)

	mine, none := ca.server("node-1", time.Now().Add(time.Hour)), tls.Certificate{}
	var there atomic.Bool
	server := addrOf(s.Listener)
	c := start(t, health.Config{
		ServerName: serverName,
		Roots:      ca.pool(),
		Timeout:    timeout,
		Interval:   10 * time.Millisecond,
		ClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if there.Load() {
				return &mine, nil
			}
			return &none, nil
		},
	}, server)
	if got := verdict(t, c, server); got.Health != endpoint.Up {
		t.Fatalf("without a certificate: got %s because %q, want up", got.Health, got.Reason)
	}
	there.Store(true)
	for end := time.Now().Add(20 * time.Second); c.Results()[server].Health != endpoint.Draining; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("with a certificate: got %+v, want draining", c.Results()[server])
		}
	}
}

func TestTargetsMayChangeAtAnyTime(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.good()
	servers := []netip.AddrPort{apiserver(t, cert, 200), apiserver(t, cert, 503), apiserver(t, cert, 401)}
	c := start(t, health.Config{ServerName: serverName, Roots: ca.pool(), Interval: time.Millisecond, Timeout: timeout})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 100 {
				c.SetTargets(servers[:1+(i+j)%len(servers)])
				c.Report(servers[j%len(servers)], net.ErrClosed)
				c.Results()
			}
		})
	}
	wg.Wait()
	c.SetTargets(servers)
	want := []endpoint.Health{endpoint.Up, endpoint.Draining, endpoint.Up}
	for i, s := range servers {
		if got := verdict(t, c, s); got.Health != want[i] {
			t.Errorf("server %d: got %s because %q, want %s", i, got.Health, got.Reason, want[i])
		}
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := health.New(health.Config{Path: "readyz", Interval: -1, Timeout: -1, Fall: -1, Rise: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"server name", "certificate authority", `path "readyz"`, "interval", "timeout", "fall", "rise"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q; want something about %q", err, want)
		}
	}
	if _, err := health.New(health.Config{ServerName: "a b", Roots: newAuthority(t).pool()}); err == nil {
		t.Error("accepted a server name that cannot be one")
	}
}
