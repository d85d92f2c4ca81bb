package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/secretfile"
)

// ErrExpired says that the certificate on disk has expired. It cannot be renewed any more, because a renewal is
// authenticated by the certificate itself.
var ErrExpired = errors.New("certificate has expired")

// recheckInterval is the least time between two checks of whether another process has replaced the certificate's
// file.
const recheckInterval = 10 * time.Second

// Credentials are a node's key and certificate and the cluster's authority, kept in sync with the files of the state
// directory. Safe for concurrent use.
type Credentials struct {
	state    stateDir
	id       identity.Identity
	ca       *x509.Certificate
	verifier identity.Verifier
	log      *slog.Logger

	mu      sync.Mutex // guards the fields below
	current tls.Certificate
	stat    fs.FileInfo // of the certificate's file when it was read
	checked time.Time
	fault   string // the last error of reloading, logged once
}

// LoadCredentials reads the state directory of the node id: node.key (which only its owner may read), node.crt and
// ca.crt. If there is no certificate the error is fs.ErrNotExist; if it has expired, ErrExpired; a certificate of
// another node, cluster or authority is refused. Log gets one line whenever the certificate changes; nil means none.
func LoadCredentials(dir string, id identity.Identity, log *slog.Logger) (*Credentials, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Credentials{state: stateDir(dir), id: id, log: log}
	stat, err := os.Stat(c.state.cert())
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if c.ca, err = c.state.readCA(); err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	c.verifier = verifierOf(c.ca, id.Cluster)
	now := time.Now()
	pair, err := c.read(now)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	c.current, c.stat, c.checked = *pair, stat, now
	return c, nil
}

// readCA reads the authority. If it is missing, the error is not fs.ErrNotExist: that would mean a node that has yet
// to enrol.
func (d stateDir) readCA() (*x509.Certificate, error) {
	ca, err := readCertificate(d.ca())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing beside %s; remove the certificate and enrol again", d.ca(), d.cert())
	}
	if err != nil {
		return nil, err
	}
	if err := checkCA(ca); err != nil {
		return nil, fmt.Errorf("%s: %w", d.ca(), err)
	}
	return ca, nil
}

// read returns the pair on disk if it is this node's and valid at time now.
func (c *Credentials) read(now time.Time) (*tls.Certificate, error) {
	pair, err := c.state.readPair()
	if err != nil {
		return nil, err
	}
	claimed, err := identity.FromCertificate(pair.Leaf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.state.cert(), err)
	}
	if claimed != c.id {
		return nil, fmt.Errorf("%s belongs to %s; this node is %s; if it was renamed, remove the file and enrol again", c.state.cert(), claimed, c.id)
	}
	if err := pair.Leaf.CheckSignatureFrom(c.ca); err != nil {
		return nil, fmt.Errorf("%s was issued by another authority than %s (%s)", c.state.cert(), c.state.ca(), PinOf(c.ca))
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s: %w at %s; enrol again with a new token", c.state.cert(), ErrExpired, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	if _, err := c.verifier.Verify(pair.Leaf, now); err != nil {
		return nil, fmt.Errorf("%s: %w", c.state.cert(), err)
	}
	return pair, nil
}

// LoadOrEnrol returns the node's credentials: those in dir or, if there is no certificate or it has expired, new ones
// from the client's servers, for the token in tokenFile. It returns when it has them, when they are definitively
// refused, or when ctx ends. The state directory is created if needed.
func LoadOrEnrol(ctx context.Context, dir string, client *Client, tokenFile string, id identity.Identity) (*Credentials, error) {
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	creds, err := LoadCredentials(dir, id, client.cfg.Log)
	switch {
	case err == nil:
		if err := client.trust.checkPin(creds.ca); err != nil {
			return nil, fmt.Errorf("load identity: %s: %w", creds.state.ca(), err)
		}
		return creds, nil
	case errors.Is(err, ErrExpired):
		client.cfg.Log.Warn("enrolling again", "reason", err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := enrolInto(ctx, stateDir(dir), client, tokenFile, id); err != nil {
		return nil, err
	}
	return LoadCredentials(dir, id, client.cfg.Log)
}

func enrolInto(ctx context.Context, state stateDir, client *Client, tokenFile string, id identity.Identity) error {
	token, err := readTokenFile(tokenFile)
	if err != nil {
		return fmt.Errorf("enrol %s: %w", id, err)
	}
	key, err := state.ensureKey(state.key())
	if err != nil {
		return fmt.Errorf("enrol %s: %w", id, err)
	}
	issued, err := client.Enrol(ctx, token, id, key)
	if err != nil {
		return err
	}
	if err := state.writeIssued(issued.Certificate, issued.CA); err != nil {
		return fmt.Errorf("enrol %s: %w", id, err)
	}
	client.cfg.Log.Info("enrolled", "identity", id, "server", issued.Server, "authority", PinOf(issued.CA), "notAfter", issued.Certificate.NotAfter)
	return nil
}

func readTokenFile(path string) (Token, error) {
	data, err := secretfile.Read(path, maxSecretFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Token{}, fmt.Errorf("no enrolment token at %s; make one on a control-plane node", path)
	}
	if err != nil {
		return Token{}, err
	}
	token, err := ParseToken(string(data))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", path, err)
	}
	return token, nil
}

// Identity returns the node's identity.
func (c *Credentials) Identity() identity.Identity { return c.id }

// CA returns the cluster's authority. Do not modify it.
func (c *Credentials) CA() *x509.Certificate { return c.ca }

// Verifier returns a verifier of the cluster's certificates.
func (c *Credentials) Verifier() identity.Verifier { return c.verifier }

// Current returns the current certificate with its key and parsed Leaf. Files replaced by another process are noticed
// within ten seconds; while they cannot be read, the last good certificate stays.
func (c *Credentials) Current() tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.checked) >= recheckInterval || now.Before(c.checked) {
		c.reload(now)
	}
	return c.current
}

// reload reads the files if they changed. The caller holds mu.
func (c *Credentials) reload(now time.Time) {
	c.checked = now
	stat, err := os.Stat(c.state.cert())
	if err == nil && sameFile(stat, c.stat) {
		return
	}
	var pair *tls.Certificate
	if err == nil {
		pair, err = c.read(now)
	}
	if err != nil {
		if text := err.Error(); text != c.fault {
			c.fault = text
			c.log.Error("certificate on disk unusable; keeping the one in use", "err", err, "notAfter", c.current.Leaf.NotAfter)
		}
		return
	}
	c.log.Info("certificate changed", "from", c.current.Leaf.NotAfter, "to", pair.Leaf.NotAfter)
	c.current, c.stat, c.fault = *pair, stat, ""
}

// reloadNow reads files that this process has just written.
func (c *Credentials) reloadNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reload(time.Now())
}

// TLSClientConfig returns the TLS configuration for connections to a control-plane node with serverName in its
// certificate (see [ServerName]). It trusts the cluster's authority alone, and presents the node's certificate of the
// time of the handshake.
func (c *Credentials) TLSClientConfig(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		RootCAs:    c.verifier.Roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := c.Current()
			return &cert, nil
		},
	}
}
