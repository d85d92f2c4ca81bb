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

// trust is how a client recognises the cluster's authority: by its certificate or only by its pin.
type trust struct {
	ca  *x509.Certificate // nil if only the pin is known
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
	if err := t.checkPin(ca); err != nil {
		return trust{}, fmt.Errorf("read authority: %s: %w", cfg.CAFile, err)
	}
	return trust{ca: ca, pin: PinOf(ca)}, nil
}

// checkPin returns an error unless ca is the trusted authority.
func (t trust) checkPin(ca *x509.Certificate) error {
	if got := PinOf(ca); !t.pin.IsZero() && got != t.pin {
		return fmt.Errorf("authority is %s; this node trusts %s", got, t.pin)
	}
	return nil
}

// config returns the TLS configuration of a client without a certificate. If only the pin is known, the authority is
// taken from the chain that the server presents.
func (t trust) config(serverName string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName}
	if t.ca != nil {
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AddCert(t.ca)
		return cfg
	}
	// The standard verification needs roots before the handshake. It is replaced by VerifyConnection, not skipped.
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

// authority returns the authority of a connection: the known one, or the presented certificate that matches the pin.
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

// newRequest returns a request that proves possession of key.
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

// attempt sends the request to one server once, within ClientConfig.PerServer. A refusal is a *fault.
func (c *Client) attempt(ctx context.Context, server string, cr certRequest) (*Issued, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.PerServer, fmt.Errorf("no answer within %s", c.cfg.PerServer))
	defer cancel()
	body, err := json.Marshal(cr.request)
	if err != nil {
		return nil, err
	}
	target := url.URL{Scheme: "https", Host: c.cfg.ServerName, Path: cr.path}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// No proxy from the environment, no redirects, no keep-alive: the token must reach this server and no other.
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return c.cfg.Dial(ctx, network, server)
		},
		TLSClientConfig:        cr.tls,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxResponse,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unwrapError(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return nil, unwrapError(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, readFault(resp.StatusCode, data)
	}
	ca := cr.ca
	if ca == nil {
		if ca, err = c.trust.authority(resp.TLS); err != nil {
			return nil, err
		}
	}
	return cr.accept(server, ca, data)
}

// unwrapError removes the *url.Error around err, or returns the cause if ctx has ended.
func unwrapError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// readFault decodes an error response. One that is not of this API is no refusal: some other program may be listening
// there for now.
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

// accept checks an issued certificate as if the server were not trusted: the check is cheap, and a node must not
// store a certificate that it cannot use.
func (cr certRequest) accept(server string, ca *x509.Certificate, data []byte) (*Issued, error) {
	var issued response
	if err := json.Unmarshal(data, &issued); err != nil {
		return nil, errors.New("answer is not a JSON object of this API")
	}
	if issued.APIVersion != APIVersion {
		return nil, fmt.Errorf("answer has apiVersion %.40q; this program speaks %q", issued.APIVersion, APIVersion)
	}
	cert, err := parseCertificate([]byte(issued.Certificate))
	if err != nil {
		return nil, fmt.Errorf("issued certificate: %w", err)
	}
	if !samePublicKey(cert.PublicKey, cr.key) {
		return nil, errors.New("issued certificate is for another key")
	}
	got, err := verifierOf(ca, cr.id.Cluster).Verify(cert, time.Now())
	if err != nil {
		return nil, fmt.Errorf("issued certificate: %w", err)
	}
	if got != cr.id {
		return nil, fmt.Errorf("issued certificate is for %s", got)
	}
	return &Issued{Certificate: cert, CA: ca, Server: server}, nil
}
