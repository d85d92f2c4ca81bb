package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/test/testca"
)

const kubernetesSlice = `{"metadata": {"name": "kubernetes"},
	"endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"], "conditions": {"ready": false}}],
	"ports": [{"name": "https", "port": 6443}]}`

// sliceServer serves one slice to whoever has a certificate, and keeps watches open.
func sliceServer(t *testing.T, dir string) netip.AddrPort {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, testca.Cert), filepath.Join(dir, testca.Key))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("watch") {
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		fmt.Fprintf(w, `{"metadata": {"resourceVersion": "1"}, "items": [%s]}`, kubernetesSlice)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	return netip.MustParseAddrPort(server.Listener.Addr().String())
}

// The kubelet's own certificate is one that comes late: it is issued through the
// balancer of this very daemon.
func TestASliceIsReadOnceItsCertificateIsThereAndUntilThenTheNodeSaysWhyNot(t *testing.T) {
	dir := t.TempDir()
	testca.Write(t, dir, "kubernetes")
	server := sliceServer(t, dir)
	path := filepath.Join(dir, "node.yaml")
	text := fmt.Sprintf(`cluster: home.example
node: w1
role: worker
ca: %s
stateDir: state
services: [{name: api.internal, serverName: kubernetes, addresses: ["%s"], balance: 127.0.0.1:7443}]
endpointSlice: {certificate: kubelet.crt, key: kubelet.key}
hosts: {disabled: true}
`, testca.CA, server)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, Options{Program: "muster-agent"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.authenticate(); err != nil {
		t.Fatal(err)
	}
	n.remember()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.followSlice(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	eventually(t, "the node says what is missing", func() bool {
		return strings.Contains(strings.Join(n.Report().Problems, "\n"), "kubelet.crt: no such file")
	})
	for from, to := range map[string]string{testca.Key: "kubelet.key", testca.Cert: "kubelet.crt"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the slice is read", func() bool { return len(n.view.known("api.internal")) == 2 })
	for _, e := range n.view.known("api.internal") {
		if e.Addr != server && e.Addr != netip.MustParseAddrPort("192.0.2.1:6443") {
			t.Errorf("learned %s, which is not ready", e.Addr)
		}
	}
	if got := n.Report().Problems; strings.Contains(strings.Join(got, "\n"), "EndpointSlice") {
		t.Errorf("still a problem: %q", got)
	}
}

// An API server that lets nobody ask anonymously says 401 until it knows who asks, and
// only then that it is not ready.
func TestServersAreAskedWithACertificateOnceItIsThere(t *testing.T) {
	dir := t.TempDir()
	testca.Write(t, dir, "kubernetes")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusUnauthorized
		if len(r.TLS.PeerCertificates) > 0 {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
	}))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, testca.Cert), filepath.Join(dir, testca.Key))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	text := fmt.Sprintf(`cluster: home.example
node: w1
role: worker
ca: %s
stateDir: state
services: [{name: api.internal, serverName: kubernetes, addresses: ["%s"], certificate: kubelet.crt, key: kubelet.key, balance: 127.0.0.1:7443}]
hosts: {disabled: true}
`, testca.CA, server.Listener.Addr())
	if err := os.WriteFile(filepath.Join(dir, "node.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(filepath.Join(dir, "node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, Options{Program: "muster-agent"})
	if err != nil {
		t.Fatal(err)
	}
	n.remember()
	ctx, stop := context.WithCancel(t.Context())
	checks, ok := n.awaitRoots(ctx, n.services[0])
	if !ok {
		t.Fatal("no CA")
	}
	done := make(chan error)
	go func() { done <- n.check(ctx, n.services[0], checks) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	health := func() endpoint.Health { return n.view.known("api.internal")[0].Health }
	problems := func() string { return strings.Join(n.Report().Problems, "\n") }
	eventually(t, "the server counts as up, and the node says why that may be wrong", func() bool {
		return health() == endpoint.Up && strings.Contains(problems(), "asked anonymously, and may not say whether they are ready: ")
	})
	for from, to := range map[string]string{testca.Key: "kubelet.key", testca.Cert: "kubelet.crt"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the server says that it is not ready", func() bool { return health() == endpoint.Draining })
	if got := problems(); strings.Contains(got, "anonymously") {
		t.Errorf("still a problem: %q", got)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// endless is an event that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}

func TestAWatchReadsNoEventWithoutEnd(t *testing.T) {
	r := &sliceReader{}
	body := &endless{}
	err := r.watch(io.MultiReader(strings.NewReader(`{"type": "BOOKMARK"}{`), body), nil)
	if err == nil || body.read > 2*maxSlice {
		t.Errorf("got %v after %d bytes", err, body.read)
	}
}

func TestARefusalIsToldInTheServersWords(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"a Status", `{"kind":"Status","apiVersion":"v1","message":"endpointslices is forbidden: User \"w1\" cannot list","code":403}`, `endpointslices is forbidden: User "w1" cannot list`},
		{"a text", "Unauthorized\n", "Unauthorized"},
		{"JSON of another kind", `{"error":"no"}`, `{"error":"no"}`},
		{"nothing", "", ""},
		{"a long text", strings.Repeat("x", 400), strings.Repeat("x", 300)},
	} {
		if got := refusal([]byte(tt.body)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
