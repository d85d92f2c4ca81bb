package enrol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// certFor returns a client certificate of the authority.
func certFor(t testing.TB, ca *CA, id identity.Identity, o IssueOptions) *tls.Certificate {
	t.Helper()
	key := mustKey(t)
	der, err := ca.Issue(key.Public(), id, o)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: mustParse(t, der)}
}

func TestRenew(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	mine := certFor(t, n.ca, worker("n1"), IssueOptions{})
	key := mustKey(t)
	tests := []struct {
		name   string
		cert   *tls.Certificate
		csr    string
		status int
		kind   string
	}{
		{"a worker gets another certificate for another key", mine, csrFor(t, key, worker("n1").String()), 200, ""},
		{"without a certificate", nil, csrFor(t, key, worker("n1").String()), 401, kindNoCert},
		{"as another worker", mine, csrFor(t, key, worker("n2").String()), 403, kindIdentity},
		{"as a control-plane node", mine, csrFor(t, key, controlPlane("n1").String()), 403, kindIdentity},
		{"with server names", mine, csrFrom(t, key, &x509.CertificateRequest{URIs: []*url.URL{worker("n1").URI()}, DNSNames: []string{"a"}}), 403, kindIdentity},
		{"with garbage", mine, "garbage", 400, kindBadCSR},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, bad, good := post(t, n, addr, RenewPath, body(t, request{APIVersion: APIVersion, CSR: tt.csr}), tt.cert)
			if status != tt.status || bad.Error.Kind != tt.kind {
				t.Fatalf("got %d %+v, want %d %q", status, bad.Error, tt.status, tt.kind)
			}
			if tt.status != http.StatusOK {
				return
			}
			cert, err := parseCertificate([]byte(good.Certificate))
			if err != nil {
				t.Fatal(err)
			}
			if id, err := n.ca.Verifier().Verify(cert, time.Now()); err != nil || id != worker("n1") || !samePublicKey(cert.PublicKey, key.Public()) {
				t.Errorf("got a certificate for %v, %v", id, err)
			}
		})
	}
}

func TestAControlPlaneNodeKeepsItsServerNamesWhenItRenews(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	cert := n.creds.Current()
	status, bad, good := post(t, n, n.listen(t), RenewPath, body(t, request{APIVersion: APIVersion, CSR: csrFor(t, mustKey(t), controlPlane("cp1").String())}), &cert)
	if status != http.StatusOK {
		t.Fatalf("got %d %+v", status, bad)
	}
	renewed, err := parseCertificate([]byte(good.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ServerName(testCluster), "127.0.0.1"} {
		if err := verifyServer(renewed, n.ca.Certificate, name); err != nil {
			t.Error(err)
		}
	}
}

func TestHandshakesThatTheServerRefuses(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	foreign := testCA(t, time.Now(), 0)
	tests := []struct {
		name string
		cert *tls.Certificate
		max  uint16
	}{
		{"a certificate of another authority with the same name", certFor(t, foreign, worker("n1"), IssueOptions{}), 0},
		{"an expired certificate", certFor(t, n.ca, worker("n1"), IssueOptions{Now: time.Now().Add(-time.Hour), Lifetime: time.Minute}), 0},
		{"TLS 1.2", nil, tls.VersionTLS12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &tls.Config{RootCAs: n.ca.Verifier().Roots, ServerName: ServerName(testCluster), MaxVersion: tt.max}
			if tt.cert != nil {
				// As GetClientCertificate, because Certificates would be withheld
				// from a server that does not name its issuer.
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.cert, nil }
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 10 * time.Second}
			resp, err := client.Post("https://"+addr+RenewPath, "application/json", strings.NewReader("{}"))
			if err == nil {
				resp.Body.Close()
				t.Errorf("got status %d, want no connection", resp.StatusCode)
			} else if !strings.Contains(err.Error(), "remote error: tls") {
				t.Errorf("got %v, want the server's alert", err)
			}
		})
	}
}

func TestRequireIdentity(t *testing.T) {
	ca := testCA(t, time.Now().Add(-2*time.Hour), 0)
	w, cp := certFor(t, ca, worker("n1"), IssueOptions{}).Leaf, certFor(t, ca, controlPlane("cp1"), IssueOptions{}).Leaf
	stale := certFor(t, ca, worker("n1"), IssueOptions{Now: time.Now().Add(-time.Hour), Lifetime: time.Minute}).Leaf
	verified := func(c *x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c, ca.Certificate}}}
	}
	tests := []struct {
		name  string
		state *tls.ConnectionState
		roles []identity.Role
		want  error
	}{
		{"a worker where workers may", verified(w), []identity.Role{identity.Worker}, nil},
		{"a worker where anybody of the cluster may", verified(w), nil, nil},
		{"a worker where only the control plane may", verified(w), []identity.Role{identity.ControlPlane}, ErrForbidden},
		{"a control-plane node where both may", verified(cp), []identity.Role{identity.Worker, identity.ControlPlane}, nil},
		{"no TLS", nil, nil, ErrUnauthenticated},
		{"TLS without a certificate", &tls.ConnectionState{}, nil, ErrUnauthenticated},
		{"a certificate that the handshake did not verify", &tls.ConnectionState{PeerCertificates: []*x509.Certificate{w}}, nil, ErrUnauthenticated},
		{"a certificate that expired during the connection", verified(stale), nil, ErrForbidden},
		{"the authority's own certificate", verified(ca.Certificate), nil, ErrForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := RequireIdentity(&http.Request{TLS: tt.state}, ca.Verifier(), tt.roles...)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v, %v; want %v", id, err, tt.want)
			}
			if err != nil && id != (identity.Identity{}) {
				t.Errorf("refused, yet got %v", id)
			}
		})
	}
}

func TestWorkersMayNotServe(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	creds := enrolled(t, n, "n1")
	if _, err := ServerTLS(creds); err == nil {
		t.Error("a worker got a server's configuration")
	}
}
