package enrol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// trust is what a client believes a server by: the authority's certificate, or
// only its pin.
type trust struct {
	ca  *x509.Certificate // nil: known by pin alone
	pin Pin
}

func newTrust(cfg ClientConfig) (trust, error) {
	t := trust{pin: cfg.Pin}
	if cfg.CAFile == "" {
		return t, nil
	}
	ca, err := readCertificate(cfg.CAFile)
	if err != nil {
		return trust{}, fmt.Errorf("read authority: %w", err)
	}
	if err := checkCA(ca); err != nil {
		return trust{}, fmt.Errorf("read authority: %s: %w", cfg.CAFile, err)
	}
	if err := t.admits(ca); err != nil {
		return trust{}, fmt.Errorf("read authority: %s: %w", cfg.CAFile, err)
	}
	return trust{ca: ca, pin: PinOf(ca)}, nil
}

// admits reports why ca is not the authority that is trusted.
func (t trust) admits(ca *x509.Certificate) error {
	if got := PinOf(ca); !t.pin.IsZero() && got != t.pin {
		return fmt.Errorf("authority is %s; this node trusts %s", got, t.pin)
	}
	return nil
}

// config returns the TLS side for a client without certificate. Known by pin
// alone, the authority is looked for in what the server presents.
func (t trust) config(serverName string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName}
	if t.ca != nil {
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AddCert(t.ca)
		return cfg
	}
	// The standard verification needs roots before the handshake and is replaced,
	// not skipped.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		ca, err := t.authority(&cs)
		if err != nil {
			return err
		}
		return verifyServer(cs.PeerCertificates[0], ca, serverName)
	}
	return cfg
}

// authority returns the authority of a connection: the known one, or the one
// among the presented certificates that the pin names.
func (t trust) authority(cs *tls.ConnectionState) (*x509.Certificate, error) {
	if t.ca != nil {
		return t.ca, nil
	}
	if len(cs.PeerCertificates) < 2 {
		return nil, fmt.Errorf("server presents no authority; this node trusts %s", t.pin)
	}
	for _, c := range cs.PeerCertificates[1:] {
		if PinOf(c) != t.pin {
			continue
		}
		if err := checkCA(c); err != nil {
			return nil, fmt.Errorf("certificate with pin %s: %w", t.pin, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("server presents authority %s; this node trusts %s", PinOf(cs.PeerCertificates[len(cs.PeerCertificates)-1]), t.pin)
}

// newRequest makes a request that proves possession of key.
func newRequest(id identity.Identity, key crypto.Signer) (request, error) {
	if err := errors.Join(id.Validate(), checkPublicKey(key.Public())); err != nil {
		return request{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id.URI()}}, key)
	if err != nil {
		return request{}, err
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
	return request{APIVersion: APIVersion, CSR: string(csr)}, nil
}

// attempt asks one server once, within its deadline. A refusal is a *fault.
func (c *Client) attempt(ctx context.Context, server string, a ask) (*Issued, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.PerServer, fmt.Errorf("no answer within %s", c.cfg.PerServer))
	defer cancel()
	body, err := json.Marshal(a.request)
	if err != nil {
		return nil, err
	}
	target := url.URL{Scheme: "https", Host: c.cfg.ServerName, Path: a.path}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// No proxy from the environment, no redirect, no connection kept: the token
	// goes to the server that was asked and nowhere else.
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.cfg.Dial(ctx, network, server)
		},
		TLSClientConfig:        a.tls,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxAnswer,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, plainError(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, plainError(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, readFault(resp.StatusCode, data)
	}
	ca := a.ca
	if ca == nil {
		if ca, err = c.trust.authority(resp.TLS); err != nil {
			return nil, err
		}
	}
	return a.accept(server, ca, data)
}

// plainError strips what net/http wraps around an error, and names the deadline
// that ended an attempt.
func plainError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// readFault reads an answer that is no success. What is not of this API's form
// is no refusal either: something else may be listening there for the moment.
func readFault(status int, data []byte) error {
	var body errorBody
	if err := json.Unmarshal(data, &body); err != nil || body.Error.Kind == "" {
		return fmt.Errorf("answers with status %d and no reason", status)
	}
	f := &fault{status: status, kind: body.Error.Kind, message: body.Error.Message}
	if f.definitive() && (status < 400 || status > 499) {
		return fmt.Errorf("answers with status %d to say %w", status, errors.New(f.Error()))
	}
	return f
}

// accept checks an issued certificate as if the server were not trusted: it
// costs nothing, and a node must not store what it cannot use.
func (a ask) accept(server string, ca *x509.Certificate, data []byte) (*Issued, error) {
	var ans answer
	if err := json.Unmarshal(data, &ans); err != nil {
		return nil, errors.New("answer is not a JSON object of this API")
	}
	if ans.APIVersion != APIVersion {
		return nil, fmt.Errorf("answer has apiVersion %.40q; this program speaks %q", ans.APIVersion, APIVersion)
	}
	cert, err := parseCertificate([]byte(ans.Certificate))
	if err != nil {
		return nil, fmt.Errorf("issued certificate: %w", err)
	}
	if !samePublicKey(cert.PublicKey, a.key) {
		return nil, errors.New("issued certificate is for another key")
	}
	got, err := verifierOf(ca, a.id.Cluster).Verify(cert, time.Now())
	if err != nil {
		return nil, fmt.Errorf("issued certificate: %w", err)
	}
	if got != a.id {
		return nil, fmt.Errorf("issued certificate is for %s", got)
	}
	return &Issued{Certificate: cert, CA: ca, Server: server}, nil
}
