package apiserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/lab/apiserver"
)

// configVar makes the test binary a server with that configuration.
const configVar = "MUSTER_APISERVER_TEST_CONFIG"

// waitTimeout bounds every wait of these tests; none should come near it.
const waitTimeout = 10 * time.Second

const (
	slicesPath = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
	nodesPath  = "/api/v1/nodes"
)

func TestMain(m *testing.M) {
	text := os.Getenv(configVar)
	if text == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	// A child that a broken test forgets must not live for ever.
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var cfg apiserver.Config
	err := json.Unmarshal([]byte(text), &cfg)
	if err == nil {
		err = apiserver.Run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// lab is what the servers of a test share.
type lab struct {
	dir    string
	state  string
	client *tls.Config // with a certificate of the client CA
	nobody *tls.Config // without
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir()}
	l.state = filepath.Join(l.dir, "state")
	if err := os.Mkdir(l.state, 0o700); err != nil {
		t.Fatal(err)
	}
	authority, key := newCertificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "lab CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	server, serverKey := newCertificate(t, &x509.Certificate{
		DNSNames: []string{"api.internal.example.k8s.local"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, key)
	client, clientKey := newCertificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "system:node:worker"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority, key)
	l.writePEM(t, "ca.crt", "CERTIFICATE", authority.Raw)
	l.writePEM(t, "server.crt", "CERTIFICATE", server.Raw)
	encoded, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	l.writePEM(t, "server.key", "PRIVATE KEY", encoded)

	l.nobody = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "api.internal.example.k8s.local"}
	l.nobody.RootCAs.AddCert(authority)
	l.client = l.nobody.Clone()
	l.client.Certificates = []tls.Certificate{{Certificate: [][]byte{client.Raw}, PrivateKey: clientKey}}
	return l
}

// newCertificate completes and signs a certificate; without parent by itself.
func newCertificate(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) writePEM(t *testing.T, name, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(l.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config returns the configuration of a server that advertises the address.
func (l *lab) config(t *testing.T, name, advertise string) apiserver.Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return apiserver.Config{
		Name: name, Listener: listener, Advertise: netip.MustParseAddrPort(advertise),
		CertFile: l.path("server.crt"), KeyFile: l.path("server.key"), ClientCAFile: l.path("ca.crt"),
		StateDir: l.state, UnreadyFile: l.path(name + ".unready"), ShutdownDelay: time.Millisecond,
		BookmarkInterval: 50 * time.Millisecond,
	}
}

// server is a running server, and a client of it.
type server struct {
	lab     *lab
	address string
	client  *http.Client
	cancel  context.CancelFunc
	done    chan error // Run's answer, once
}

// run runs a server until the test ends.
func (l *lab) run(t *testing.T, cfg apiserver.Config) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{lab: l, address: cfg.Listener.Addr().String(), cancel: cancel, done: make(chan error, 1)}
	s.client = s.clientWith(t, l.client, false)
	go func() {
		s.done <- apiserver.Run(ctx, cfg)
		close(s.done)
	}()
	t.Cleanup(func() { s.stop(t) })
	return s
}

// start runs a server that advertises the address, and waits until the
// EndpointSlice has it.
func (l *lab) start(t *testing.T, name, advertise string) *server {
	t.Helper()
	s := l.run(t, l.config(t, name, advertise))
	host, _, err := net.SplitHostPort(advertise)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, advertise+" is in the EndpointSlice", func() bool {
		for _, addr := range s.endpoints(t) {
			if addr == host {
				return true
			}
		}
		return false
	})
	return s
}

// stop tells the server to end and waits until it has.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	select {
	case err := <-s.done:
		if err != nil {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(waitTimeout):
		t.Error("Run did not return")
	}
}

// clientWith returns a client that may use HTTP/2.
func (s *server) clientWith(t *testing.T, trust *tls.Config, http2 bool) *http.Client {
	transport := &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: http2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// reply is an answer, read to its end.
type reply struct {
	code   int
	text   string
	header http.Header
}

// send sends a request and decodes the answer into object, unless that is nil.
func (s *server) send(t *testing.T, client *http.Client, method, path, contentType, body string, object any) reply {
	t.Helper()
	got, err := s.try(client, method, path, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	if object != nil {
		if err := json.Unmarshal([]byte(got.text), object); err != nil {
			t.Fatalf("%s %s: %v in %q", method, path, err, got.text)
		}
	}
	return got
}

func (s *server) try(client *http.Client, method, path, contentType, body string) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "https://"+s.address+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, string(text), response.Header}, err
}

// get sends a GET as one who has a certificate.
func (s *server) get(t *testing.T, path string, object any) reply {
	t.Helper()
	return s.send(t, s.client, http.MethodGet, path, "", "", object)
}

// endpointSlice is an EndpointSlice as a client sees it.
type endpointSlice struct {
	Kind     string
	Metadata struct{ Name, ResourceVersion string }
	// Empty where the object is a bookmark.
	AddressType string
	Endpoints   []struct {
		Addresses  []string
		Conditions struct{ Ready *bool }
	}
	Ports []struct {
		Name     string
		Port     int
		Protocol string
	}
}

func (e endpointSlice) addresses() []string {
	addrs := []string{}
	for _, endpoint := range e.Endpoints {
		addrs = append(addrs, endpoint.Addresses...)
	}
	return addrs
}

// endpoints returns the addresses in the EndpointSlice.
func (s *server) endpoints(t *testing.T) []string {
	t.Helper()
	var list struct{ Items []endpointSlice }
	s.get(t, slicesPath+"?labelSelector=kubernetes.io/service-name=kubernetes", &list)
	if len(list.Items) == 0 {
		return nil
	}
	return list.Items[0].addresses()
}

// spawn runs a server as a process of its own, until the test ends.
func (l *lab) spawn(t *testing.T, cfg apiserver.Config) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = cfg.Listener.Addr().(*net.TCPAddr).AddrPort()
	cfg.Listener.Close()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	// Under the race detector a program sleeps a second before it exits.
	cmd.Env = []string{configVar + "=" + string(text), "GORACE=atexit_sleep_ms=0"}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("output of %s: %s", cfg.Name, output.String())
		}
	})
	return cmd
}

// eventually waits until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitTimeout)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s", waitTimeout, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
