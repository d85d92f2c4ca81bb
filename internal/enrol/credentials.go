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

// ErrExpired says that the certificate on disk is past its time. The node can
// then not renew it any more: renewal is asked for with the certificate itself.
var ErrExpired = errors.New("certificate has expired")

// recheck is how often, at most, the certificate's file is looked at for
// a replacement made by somebody else.
const recheck = 10 * time.Second

// Credentials are a node's identity in use: its key, its certificate and the
// cluster's authority, kept in step with the files of the state directory. Safe
// for concurrent use.
type Credentials struct {
	state    stateDir
	id       identity.Identity
	ca       *x509.Certificate
	verifier identity.Verifier
	log      *slog.Logger

	mu      sync.Mutex // guards what follows
	current tls.Certificate
	stamp   fs.FileInfo // of the certificate's file when it was read
	checked time.Time
	fault   string // the last fault of reloading, said once
}

// LoadCredentials reads the state directory of the node id: node.key (which only
// its owner may read), node.crt and ca.crt. If there is no certificate the error
// is fs.ErrNotExist; if it is past its time, ErrExpired; a certificate of another
// node, cluster or authority is refused with an error that says so. Log gets one
// line whenever the certificate changes; nil means none.
func LoadCredentials(dir string, id identity.Identity, log *slog.Logger) (*Credentials, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Credentials{state: stateDir(dir), id: id, log: log}
	stamp, err := os.Stat(c.state.cert())
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
	c.current, c.stamp, c.checked = *pair, stamp, now
	return c, nil
}

// readCA reads the authority. Its absence beside a certificate is a fault of its
// own and not the state of a node that has yet to enrol.
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

// read returns the pair on disk if it is this node's and good at time now.
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

// LoadOrEnrol returns the node's credentials: those in dir, or, if there is no
// certificate or it has expired, new ones got through the client with the token
// in tokenFile. It returns when it has them, when they are refused for good, or
// when ctx ends. The state directory is made if need be.
func LoadOrEnrol(ctx context.Context, dir string, client *Client, tokenFile string, id identity.Identity) (*Credentials, error) {
	if err := id.Validate(); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	creds, err := LoadCredentials(dir, id, client.cfg.Log)
	switch {
	case err == nil:
		if err := client.trust.admits(creds.ca); err != nil {
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

// Identity returns whose credentials these are.
func (c *Credentials) Identity() identity.Identity { return c.id }

// CA returns the cluster's authority. Do not modify it.
func (c *Credentials) CA() *x509.Certificate { return c.ca }

// Verifier returns what decides whether a certificate is of this cluster.
func (c *Credentials) Verifier() identity.Verifier { return c.verifier }

// Current returns the certificate as it is now, with its key and its parsed
// Leaf. If the files were replaced, at most ten seconds ago is "now"; while they
// cannot be read, the last good ones stay.
func (c *Credentials) Current() tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.checked) >= recheck || now.Before(c.checked) {
		c.reload(now)
	}
	return c.current
}

// reload takes over the files if they changed. The caller holds mu.
func (c *Credentials) reload(now time.Time) {
	c.checked = now
	stamp, err := os.Stat(c.state.cert())
	if err == nil && sameFile(stamp, c.stamp) {
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
	c.current, c.stamp, c.fault = *pair, stamp, ""
}

// reloadNow takes over files that this process has just written.
func (c *Credentials) reloadNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reload(time.Now())
}

// TLSClientConfig returns the client side of TLS towards a control-plane node
// that proves serverName (see [ServerName]): the cluster's authority alone, and
// the node's certificate as it is at each handshake.
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
