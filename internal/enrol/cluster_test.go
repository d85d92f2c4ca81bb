package enrol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

const testCluster = "atlas.k8s.local"

// worker returns the identity of a worker of the test cluster.
func worker(name string) identity.Identity {
	return identity.Identity{Cluster: testCluster, Role: identity.Worker, Node: name}
}

// controlPlane returns the identity of a control-plane node of the test cluster.
func controlPlane(name string) identity.Identity {
	return identity.Identity{Cluster: testCluster, Role: identity.ControlPlane, Node: name}
}

func mustKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := newNodeKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testNode is a control-plane node: its credentials, its tokens and its part of
// the worker-facing API. It listens nowhere yet.
type testNode struct {
	ca     *CA
	creds  *Credentials
	tokens *TokenStore
	server *Server
}

// newCluster makes an authority and one control-plane node for each name. The
// nodes share no tokens. The authority is two hours old, so that certificates can
// have expired already; the nodes' certificates last as long as it does.
func newCluster(t testing.TB, names ...string) []*testNode {
	t.Helper()
	ca := testCA(t, time.Now().Add(-2*time.Hour), 0)
	var out []*testNode
	for _, n := range names {
		o := ControlPlaneNode{Name: n, Addr: netip.MustParseAddr("127.0.0.1")}.options(testCluster, time.Now())
		o.Lifetime = DefaultCALifetime
		dir := t.TempDir()
		writeState(t, dir, ca, certFor(t, ca, controlPlane(n), o))
		creds, err := LoadCredentials(dir, controlPlane(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		tokens := &TokenStore{Path: filepath.Join(dir, "tokens.json")}
		server, err := NewServer(ServerConfig{CA: ca, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &testNode{ca, creds, tokens, server})
	}
	return out
}

// writeState writes a node's state directory, without the pains of doing so
// durably.
func writeState(t testing.TB, dir string, ca *CA, cert *tls.Certificate) {
	t.Helper()
	key, err := encodeKey(cert.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	state := stateDir(dir)
	writeTestFile(t, state.key(), string(key), 0o600)
	writeTestFile(t, state.ca(), string(ca.PEM()), 0o644)
	writeTestFile(t, state.cert(), string(encodeCertificate(cert.Certificate[0])), 0o644)
}

func (n *testNode) token(t testing.TB, node string) Token {
	t.Helper()
	token, err := n.tokens.Create(time.Hour, node, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// serve serves the node's API on l until the test ends.
func (n *testNode) serve(t testing.TB, l net.Listener) {
	t.Helper()
	cfg, err := ServerTLS(n.creds)
	if err != nil {
		t.Fatal(err)
	}
	serveHTTP(t, l, &http.Server{Handler: n.server, TLSConfig: cfg})
}

// listen serves the node's API on a loopback port and returns its address.
func (n *testNode) listen(t testing.TB) string {
	t.Helper()
	l := loopback(t)
	n.serve(t, l)
	return l.Addr().String()
}

func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serveHTTP runs srv on l and joins it when the test ends.
func serveHTTP(t testing.TB, l net.Listener, srv *http.Server) {
	t.Helper()
	srv.ErrorLog = log.New(io.Discard, "", 0)
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
}

// deadAddress returns a loopback address where nobody listens.
func deadAddress(t testing.TB) string {
	t.Helper()
	l := loopback(t)
	defer l.Close()
	return l.Addr().String()
}

// newTestClient returns a client that knows the node's authority by pin.
func newTestClient(t testing.TB, ca *CA, servers ...string) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{Servers: servers, ServerName: ServerName(testCluster), Pin: PinOf(ca.Certificate)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// within returns a context that ends with the test or after d.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func writeTestFile(t testing.TB, path, data string, perm os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// logBuffer collects log lines from several goroutines.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// inBubble runs fn with a fake clock.
func inBubble(t *testing.T, fn func(*testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}
