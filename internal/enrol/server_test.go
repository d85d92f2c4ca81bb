package enrol

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// csrFor returns a signing request in PEM with the given identities.
func csrFor(t testing.TB, key crypto.Signer, ids ...string) string {
	t.Helper()
	var template x509.CertificateRequest
	for _, id := range ids {
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	return csrFrom(t, key, &template)
}

func csrFrom(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}))
}

func body(t testing.TB, req request) string {
	t.Helper()
	data, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// post sends a request over real TLS, with the given client certificate or none,
// and returns the status and the kind of the refusal, if any.
func post(t testing.TB, n *testNode, addr, path, payload string, cert *tls.Certificate) (int, errorBody, response) {
	t.Helper()
	cfg := &tls.Config{RootCAs: n.ca.Verifier().Roots, ServerName: ServerName(testCluster)}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Post("https://"+addr+path, "application/json", strings.NewReader(payload))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var bad errorBody
	var good response
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(data, &good)
	} else if resp.Header.Get("Content-Type") == "application/json" {
		err = json.Unmarshal(data, &bad)
	}
	if err != nil {
		t.Fatalf("answer %s: %v", data, err)
	}
	return resp.StatusCode, bad, good
}

func TestHostileClientsGetNoCertificate(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	key := mustKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token := n.token(t, "").Text()
	bound := n.token(t, "other").Text()
	used := n.token(t, "").Text()
	if err := n.tokens.Redeem(used, "victim", [32]byte{1}, time.Now()); err != nil {
		t.Fatal(err)
	}
	stale, err := n.tokens.Create(time.Nanosecond, "", time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	good := csrFor(t, key, worker("n1").String())
	// A request whose key was swapped after signing: the sender holds another's
	// public key, not the private one.
	block, _ := pem.Decode([]byte(good))
	victim, err := x509.MarshalPKIXPublicKey(mustKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	mine, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	stolen := base64.StdEncoding.EncodeToString(bytes.Replace(block.Bytes, mine, victim, 1))
	if stolen == base64.StdEncoding.EncodeToString(block.Bytes) {
		t.Fatal("the key was not swapped")
	}
	enrolment := func(token, csr string) string {
		return body(t, request{APIVersion: APIVersion, Token: token, CSR: csr})
	}

	tests := []struct {
		name, payload string
		status        int
		kind          string
	}{
		{"a body of 17 KiB", strings.Repeat(" ", 17<<10) + enrolment(token, good), 413, kindTooLarge},
		{"a body of 10 MiB", `{"token":"` + strings.Repeat("a", 10<<20), 413, kindTooLarge},
		{"no body", "", 400, kindBadRequest},
		{"no JSON", "token=" + token, 400, kindBadRequest},
		{"a JSON null", "null", 400, kindBadRequest},
		{"two JSON objects", enrolment(token, good) + enrolment(token, good), 400, kindBadRequest},
		{"nested a thousand deep", strings.Repeat("[", 1000), 400, kindBadRequest},
		{"another version", strings.Replace(enrolment(token, good), APIVersion, "v9", 1), 400, kindBadRequest},
		{"no CSR", enrolment(token, ""), 400, kindBadCSR},
		{"a CSR of garbage", enrolment(token, "!!!"), 400, kindBadCSR},
		{"a CSR of base64 garbage", enrolment(token, "AAAA"), 400, kindBadCSR},
		{"a certificate for a CSR", enrolment(token, string(n.ca.PEM())), 400, kindBadCSR},
		{"two CSRs", enrolment(token, good+good), 400, kindBadCSR},
		{"a key whose possession is not proven", enrolment(token, stolen), 400, kindBadCSR},
		{"an RSA key", enrolment(token, csrFor(t, rsaKey, worker("n1").String())), 400, kindBadCSR},
		{"a P-384 key", enrolment(token, csrFor(t, p384, worker("n1").String())), 400, kindBadCSR},
		{"no identity", enrolment(token, csrFor(t, key)), 403, kindIdentity},
		{"two identities", enrolment(token, csrFor(t, key, worker("n1").String(), controlPlane("n1").String())), 403, kindIdentity},
		{"an identity that is none", enrolment(token, csrFor(t, key, "https://example.com/")), 403, kindIdentity},
		{"another cluster", enrolment(token, csrFor(t, key, "muster://beta/worker/n1")), 403, kindIdentity},
		{"the control-plane role", enrolment(token, csrFor(t, key, controlPlane("n1").String())), 403, kindIdentity},
		{"a node name that is no DNS name", enrolment(token, csrFor(t, key, worker("N_1").String())), 403, kindIdentity},
		{"server names besides", enrolment(token, csrFrom(t, key, &x509.CertificateRequest{URIs: []*url.URL{worker("n1").URI()}, DNSNames: []string{ServerName(testCluster)}})), 403, kindIdentity},
		{"addresses besides", enrolment(token, csrFrom(t, key, &x509.CertificateRequest{URIs: []*url.URL{worker("n1").URI()}, IPAddresses: []net.IP{{10, 0, 0, 1}}})), 403, kindIdentity},
		{"no token", enrolment("", good), 401, kindTokenUnknown},
		{"a guessed token", enrolment("aaaaaa."+strings.Repeat("a", 32), good), 401, kindTokenUnknown},
		{"a guessed secret of a token that exists", enrolment(token[:7]+strings.Repeat("a", 32), good), 401, kindTokenUnknown},
		{"a token of another node", enrolment(bound, good), 403, kindTokenNode},
		{"a token replayed with another key", enrolment(used, good), 403, kindTokenUsed},
		{"an expired token", enrolment(stale.Text(), good), 403, kindTokenExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, bad, good := post(t, n, addr, EnrolPath, tt.payload, nil)
			if status != tt.status || bad.Error.Kind != tt.kind {
				t.Errorf("got %d %q (%s), want %d %q", status, bad.Error.Kind, bad.Error.Message, tt.status, tt.kind)
			}
			if good.Certificate != "" {
				t.Error("a certificate was issued")
			}
			if strings.Contains(bad.Error.Message, token[7:20]) {
				t.Errorf("answer quotes the token: %s", bad.Error.Message)
			}
		})
	}
	// None of that used the good token up.
	status, bad, got := post(t, n, addr, EnrolPath, enrolment(token, good), nil)
	if status != http.StatusOK {
		t.Fatalf("the honest node: got %d %+v", status, bad)
	}
	cert, err := parseCertificate([]byte(got.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := n.ca.Verifier().Verify(cert, time.Now()); err != nil || id != worker("n1") {
		t.Errorf("got %v, %v; want %v", id, err, worker("n1"))
	}
	if !cert.NotAfter.Equal(got.NotAfter) || got.CA != string(n.ca.PEM()) {
		t.Errorf("answer says notAfter %s and ca %q", got.NotAfter, got.CA)
	}
}

func TestUnknownAndWrongSecretAnswerTheSame(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	token := n.token(t, "").Text()
	csr := csrFor(t, mustKey(t), worker("n1").String())
	answers := make(map[string]bool)
	for _, text := range []string{token[:7] + strings.Repeat("b", 32), "aaaaaa." + token[7:], "nonsense"} {
		w := httptest.NewRecorder()
		n.server.ServeHTTP(w, httptest.NewRequest("POST", EnrolPath, strings.NewReader(body(t, request{APIVersion: APIVersion, Token: text, CSR: csr}))))
		answers[fmt.Sprint(w.Code, w.Header(), w.Body)] = true
	}
	if len(answers) != 1 {
		t.Errorf("%d different answers: %v", len(answers), answers)
	}
}

func TestALostAnswerIsGivenAgain(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	key := mustKey(t)
	token := n.token(t, "").Text()
	// A second CSR of the same key, as after a crash: signed anew, DER in base64.
	block, _ := pem.Decode([]byte(csrFor(t, key, worker("n1").String())))
	for i, csr := range []string{csrFor(t, key, worker("n1").String()), base64.StdEncoding.EncodeToString(block.Bytes)} {
		status, bad, _ := post(t, n, addr, EnrolPath, body(t, request{APIVersion: APIVersion, Token: token, CSR: csr}), nil)
		if status != http.StatusOK {
			t.Errorf("request %d: got %d %+v", i+1, status, bad)
		}
	}
}

func TestOtherMethodsAndPaths(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	for _, tt := range []struct {
		method, path string
		want         int
	}{{"GET", EnrolPath, 405}, {"PUT", RenewPath, 405}, {"POST", "/v1/other", 404}} {
		w := httptest.NewRecorder()
		n.server.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
}

func TestLogsHoldNoSecret(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	var logs logBuffer
	server, err := NewServer(ServerConfig{CA: n.ca, Tokens: n.tokens, Log: logs.logger()})
	if err != nil {
		t.Fatal(err)
	}
	token := n.token(t, "")
	csr := csrFor(t, mustKey(t), worker("n1").String())
	for _, payload := range []string{
		body(t, request{APIVersion: APIVersion, Token: token.Text(), CSR: csr}),
		body(t, request{APIVersion: APIVersion, Token: token.Text(), CSR: csrFor(t, mustKey(t), worker("n2").String())}),
		body(t, request{APIVersion: APIVersion, Token: token.Text(), CSR: token.Text()}),
		`{"token":` + token.Text(),
	} {
		server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", EnrolPath, strings.NewReader(payload)))
	}
	got := logs.String()
	if strings.Contains(got, token.Text()[tokenIDLen+1:]) {
		t.Errorf("the log holds the secret:\n%s", got)
	}
	for _, want := range []string{"certificate issued", "kind=" + kindTokenUsed, "token=" + token.ID, worker("n1").String()} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %q:\n%s", want, got)
		}
	}
}

func TestAFaultOfTheStoreIsNotToldToStrangers(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	path := writeTestFile(t, filepath.Join(t.TempDir(), "tokens.json"), "broken", 0o600)
	var logs logBuffer
	server, err := NewServer(ServerConfig{CA: n.ca, Tokens: &TokenStore{Path: path}, Log: logs.logger()})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	payload := body(t, request{APIVersion: APIVersion, Token: n.token(t, "").Text(), CSR: csrFor(t, mustKey(t), worker("n1").String())})
	server.ServeHTTP(w, httptest.NewRequest("POST", EnrolPath, strings.NewReader(payload)))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), path) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if !strings.Contains(logs.String(), path) {
		t.Errorf("the log lacks %s: %s", path, logs.String())
	}
}

func TestServerConfigReportsEveryFault(t *testing.T) {
	_, err := NewServer(ServerConfig{Lifetime: time.Minute, Rate: -1, Log: slog.New(slog.DiscardHandler)})
	for _, want := range []string{"certificate authority", "token store", "too short", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// enrolled returns the credentials of a worker that enrolled at n.
func enrolled(t testing.TB, n *testNode, name string) *Credentials {
	t.Helper()
	dir := t.TempDir()
	tokenFile := writeTestFile(t, filepath.Join(dir, "token"), n.token(t, "").Text()+"\n", 0o600)
	creds, err := LoadOrEnrol(within(t, 10*time.Second), filepath.Join(dir, "state"), newTestClient(t, n.ca, n.listen(t)), tokenFile, worker(name))
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

func FuzzRequest(f *testing.F) {
	key := mustKey(f)
	csr := csrFor(f, key, worker("n1").String())
	block, _ := pem.Decode([]byte(csr))
	f.Add([]byte(body(f, request{APIVersion: APIVersion, Token: "t", CSR: csr})))
	f.Add([]byte(body(f, request{APIVersion: APIVersion, CSR: base64.StdEncoding.EncodeToString(block.Bytes)})))
	f.Add([]byte(`{"apiVersion":"enrol.muster/v1"}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, bad := decodeRequest(data)
		if bad == nil {
			var csr *x509.CertificateRequest
			var id identity.Identity
			if csr, id, bad = parseCSR(req.CSR); bad == nil {
				if err := errors.Join(id.Validate(), checkPublicKey(csr.PublicKey), csr.CheckSignature()); err != nil {
					t.Errorf("%s was let through: %v", data, err)
				}
			}
		}
		if bad != nil && (bad.status < 400 || bad.status > 499 || !bad.definitive() || len(bad.message) > 1000) {
			t.Errorf("%q is refused with %+v", data, bad)
		}
	})
}
