package enrol

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEnrolOverLoopback(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	caFile := writeTestFile(t, filepath.Join(t.TempDir(), "ca.crt"), string(n.ca.PEM()), 0o644)
	pin := PinOf(n.ca.Certificate)
	name := ServerName(testCluster)
	tests := []struct {
		name string
		cfg  ClientConfig
	}{
		{"with the pin alone", ClientConfig{Servers: []string{addr}, ServerName: name, Pin: pin}},
		{"with the authority's file alone", ClientConfig{Servers: []string{addr}, ServerName: name, CAFile: caFile}},
		{"with both", ClientConfig{Servers: []string{addr}, ServerName: name, Pin: pin, CAFile: caFile}},
		{"past a server that is down", ClientConfig{Servers: []string{deadAddress(t), addr}, ServerName: name, Pin: pin}},
		{"at a server that was discovered", ClientConfig{Discovered: func() []string { return []string{addr} }, ServerName: name, Pin: pin}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := NewClient(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			key := mustKey(t)
			issued, err := client.Enrol(within(t, 10*time.Second), n.token(t, "n1"), worker("n1"), key)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := n.ca.Verifier().Verify(issued.Certificate, time.Now()); err != nil || id != worker("n1") {
				t.Errorf("got a certificate for %v, %v", id, err)
			}
			if PinOf(issued.CA) != pin || issued.Server != addr {
				t.Errorf("got authority %s from %s", PinOf(issued.CA), issued.Server)
			}
		})
	}
}

// serveChain serves a handler with a chain of certificates.
func serveChain(t testing.TB, h http.Handler, leaf *tls.Certificate, others ...*x509.Certificate) string {
	t.Helper()
	cert := *leaf
	for _, o := range others {
		cert.Certificate = append(slices.Clone(cert.Certificate), o.Raw)
	}
	l := loopback(t)
	serveHTTP(t, l, &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}})
	return l.Addr().String()
}

func TestHostileServersGetNoToken(t *testing.T) {
	ours := testCA(t, time.Now().Add(-2*time.Hour), 0)
	theirs := testCA(t, time.Now().Add(-2*time.Hour), 0)
	names := IssueOptions{DNSNames: []string{ServerName(testCluster)}}
	good, foreign := certFor(t, ours, controlPlane("cp1"), names), certFor(t, theirs, controlPlane("cp1"), names)
	stale := names
	stale.Now, stale.Lifetime = time.Now().Add(-time.Hour), time.Minute
	// A certificate with our authority's key and another's signature.
	forged, err := x509.CreateCertificate(nil, ours.Certificate, theirs.Certificate, ours.Certificate.PublicKey, theirs.key)
	if err != nil {
		t.Fatal(err)
	}
	// A node's certificate does not make its key an authority.
	under := *good.Leaf
	mallory := mustKey(t)
	sub, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: good.Leaf.SerialNumber, NotBefore: good.Leaf.NotBefore, NotAfter: good.Leaf.NotAfter,
		DNSNames: names.DNSNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, &under, mallory.Public(), good.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	byNode := &tls.Certificate{Certificate: [][]byte{sub, good.Leaf.Raw}, PrivateKey: mallory}

	tests := []struct {
		name  string
		leaf  *tls.Certificate
		chain []*x509.Certificate
		pin   Pin
		file  bool // known by file instead of by pin
		want  string
	}{
		{"another authority", foreign, []*x509.Certificate{theirs.Certificate}, PinOf(ours.Certificate), false, "server presents authority sha256:"},
		{"the right authority beside a leaf of another", foreign, []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "unknown authority"},
		{"both authorities beside a leaf of the wrong one", foreign, []*x509.Certificate{theirs.Certificate, ours.Certificate}, PinOf(ours.Certificate), false, "unknown authority"},
		{"the right chain for another name", certFor(t, ours, controlPlane("cp1"), IssueOptions{DNSNames: []string{"muster.internal.beta"}}), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "not muster.internal.atlas"},
		{"the right chain without a name", certFor(t, ours, controlPlane("cp1"), IssueOptions{}), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "not valid for any names"},
		{"a worker that plays server", certFor(t, ours, worker("n1"), IssueOptions{}), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "muster.internal.atlas"},
		{"an expired leaf", certFor(t, ours, controlPlane("cp1"), stale), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "expired"},
		{"no authority in the chain", good, nil, PinOf(ours.Certificate), false, "presents no authority"},
		{"the leaf's own key pinned", good, []*x509.Certificate{ours.Certificate}, PinOf(good.Leaf), false, "server presents authority"},
		{"the right key in a certificate that it did not sign", good, []*x509.Certificate{mustParse(t, forged)}, PinOf(ours.Certificate), false, "not signed by its own key"},
		{"a leaf issued by a node", byNode, []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "unknown authority"},
		{"another authority, ours known by file", foreign, []*x509.Certificate{theirs.Certificate}, Pin{}, true, "unknown authority"},
		{"the right authority's file, another name", certFor(t, ours, controlPlane("cp1"), IssueOptions{DNSNames: []string{"a"}}), nil, Pin{}, true, "not muster.internal.atlas"},
	}
	token, err := newToken()
	if err != nil {
		t.Fatal(err)
	}
	caFile := writeTestFile(t, filepath.Join(t.TempDir(), "ca.crt"), string(ours.PEM()), 0o644)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			addr := serveChain(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }), tt.leaf, tt.chain...)
			cfg := ClientConfig{Servers: []string{addr}, ServerName: ServerName(testCluster), Pin: tt.pin}
			if tt.file {
				cfg.CAFile = caFile
			}
			client, err := NewClient(cfg)
			if err != nil {
				t.Fatal(err)
			}
			issued, failed := client.round(within(t, 10*time.Second), requestFor(t, client, token))
			if issued != nil || !strings.Contains(failed.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error with %q", issued, failed, tt.want)
			}
			if failed.definitive() {
				t.Error("a server that is not ours ended the enrolment")
			}
			if len(asked) > 0 {
				t.Error("the request, with the token, reached the server")
			}
		})
	}
}

// requestFor is one enrolment of n1.
func requestFor(t testing.TB, c *Client, token Token) certRequest {
	t.Helper()
	key := mustKey(t)
	req, err := newRequest(worker("n1"), key)
	if err != nil {
		t.Fatal(err)
	}
	req.Token = token.Text()
	return certRequest{path: EnrolPath, request: req, id: worker("n1"), key: key.Public(), tls: c.trust.config(c.cfg.ServerName)}
}

func TestAnswersThatAreNotBelieved(t *testing.T) {
	ca, foreign := testCA(t, time.Now(), 0), testCA(t, time.Now(), 0)
	server := certFor(t, ca, controlPlane("cp1"), IssueOptions{DNSNames: []string{ServerName(testCluster)}})
	success := func(a response) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, a) }
	}
	refusal := func(status int, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { writeFault(w, &fault{status, kind, "no"}) }
	}
	// Issues what was asked for, but not to whom.
	issue := func(ca *CA, change func(*certRequest)) func(a certRequest) http.HandlerFunc {
		return func(a certRequest) http.HandlerFunc {
			change(&a)
			der, err := ca.Issue(a.key, a.id, IssueOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return success(response{APIVersion: APIVersion, Certificate: string(encodeCertificate(der)), CA: string(ca.PEM())})
		}
	}
	always := func(h http.HandlerFunc) func(certRequest) http.HandlerFunc {
		return func(certRequest) http.HandlerFunc { return h }
	}
	otherKey := mustKey(t).Public()
	tests := []struct {
		name       string
		handler    func(certRequest) http.HandlerFunc
		want       string
		definitive bool
	}{
		{"a certificate for another key", issue(ca, func(a *certRequest) { a.key = otherKey }), "another key", false},
		{"a certificate for another node", issue(ca, func(a *certRequest) { a.id = worker("n2") }), "issued certificate is for", false},
		{"a certificate of another authority", issue(foreign, func(*certRequest) {}), "unknown authority", false},
		{"no certificate", always(success(response{APIVersion: APIVersion})), "no PEM block", false},
		{"another version", always(success(response{APIVersion: "v9"})), "v9", false},
		{"no JSON", always(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), "not a JSON object", false},
		{"an answer without end", always(func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				fmt.Fprint(w, strings.Repeat(" ", 1<<10))
			}
		}), "not a JSON object", false},
		{"a redirect", always(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com/", http.StatusTemporaryRedirect)
		}), "status 307", false},
		{"a 404 of something else", always(http.NotFound), "status 404", false},
		{"an overloaded server", always(refusal(429, kindRateLimited)), kindRateLimited, false},
		{"a server with a fault", always(refusal(500, kindInternal)), kindInternal, false},
		{"a kind that this program does not know", always(refusal(403, "new-kind")), "new-kind", false},
		{"a refusal with the wrong status", always(refusal(502, kindTokenUsed)), "status 502", false},
		{"a refusal", always(refusal(401, kindTokenUnknown)), kindTokenUnknown, true},
	}
	token, err := newToken()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h http.HandlerFunc
			addr := serveChain(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(w, r) }), server, ca.Certificate)
			client := newTestClient(t, ca, addr)
			a := requestFor(t, client, token)
			h = tt.handler(a)
			issued, failed := client.round(within(t, 10*time.Second), a)
			if issued != nil || !strings.Contains(failed.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error with %q", issued, failed, tt.want)
			}
			if got := failed.definitive(); got != tt.definitive {
				t.Errorf("definitive: got %t, want %t", got, tt.definitive)
			}
		})
	}
}

func TestClientConfigReportsEveryFault(t *testing.T) {
	_, err := NewClient(ClientConfig{PerServer: -1})
	for _, want := range []string{"at least one server", "name that servers prove", "pin", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	ca, other := testCA(t, time.Now(), 0), testCA(t, time.Now(), 0)
	dir := t.TempDir()
	caFile := writeTestFile(t, filepath.Join(dir, "ca.crt"), string(ca.PEM()), 0o644)
	leafFile := writeTestFile(t, filepath.Join(dir, "leaf.crt"), string(encodeCertificate(certFor(t, ca, worker("n"), IssueOptions{}).Leaf.Raw)), 0o644)
	good := ClientConfig{Servers: []string{"[::1]:3990"}, ServerName: ServerName(testCluster), CAFile: caFile}
	tests := []struct {
		name   string
		change func(*ClientConfig)
		want   string // "" means accepted
	}{
		{"as it should be", func(*ClientConfig) {}, ""},
		{"a server without a port", func(c *ClientConfig) { c.Servers = []string{"10.0.0.1"} }, "not HOST:PORT"},
		{"a server without a host", func(c *ClientConfig) { c.Servers = []string{":3990"} }, "not HOST:PORT"},
		{"a port that is none", func(c *ClientConfig) { c.Servers = []string{"a:99999"} }, "not HOST:PORT"},
		{"a pin of another authority than the file's", func(c *ClientConfig) { c.Pin = PinOf(other.Certificate) }, "this node trusts"},
		{"a file that is missing", func(c *ClientConfig) { c.CAFile = filepath.Join(dir, "none") }, "none"},
		{"a node's certificate for an authority", func(c *ClientConfig) { c.CAFile = leafFile }, "not a certificate authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := NewClient(cfg)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	ca, err := NewCA(testCluster, time.Now(), 0)
	if err != nil {
		f.Fatal(err)
	}
	key := mustKey(f)
	der, err := ca.Issue(key.Public(), worker("n1"), IssueOptions{})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(response{APIVersion: APIVersion, Certificate: string(encodeCertificate(der))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(200, good)
	f.Add(401, []byte(`{"error":{"kind":"token-unknown","message":"x"}}`))
	f.Add(500, []byte(`{}`))
	a := certRequest{id: worker("n1"), key: key.Public()}
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		if issued, err := a.accept("s", ca.Certificate, data); err == nil && string(issued.Certificate.Raw) != string(der) {
			t.Errorf("%q was taken for a certificate", data)
		}
		err := readFault(status, data)
		if err == nil {
			t.Fatalf("status %d with %q is no fault", status, data)
		}
		if (roundError{{"s", err}}).definitive() && (status < 400 || status > 499) {
			t.Errorf("status %d with %q is definitive", status, data)
		}
	})
}
