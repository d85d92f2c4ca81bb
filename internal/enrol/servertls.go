package enrol

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// Reasons for refusing a request; they map to 401 and 403.
var (
	ErrUnauthenticated = errors.New("no client certificate")
	ErrForbidden       = errors.New("client certificate does not permit this")
)

// ServerTLS returns the TLS configuration of the worker-facing API: TLS 1.3, the node's current certificate (a
// renewed one is used from the next connection on), and client certificates of the cluster's authority. A client
// certificate is optional, because a new worker has none: handlers that need one call [RequireIdentity]. The
// credentials must be those of a control-plane node.
func ServerTLS(c *Credentials) (*tls.Config, error) {
	if c.id.Role != identity.ControlPlane {
		return nil, fmt.Errorf("%s may not serve: only control-plane certificates authenticate a server", c.id)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  c.verifier.Roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := c.Current()
			// A worker that knows only the pin takes the authority from this chain.
			cert.Certificate = [][]byte{cert.Leaf.Raw, c.ca.Raw}
			return &cert, nil
		},
		// A resumed session would rely on a certificate verified long ago.
		SessionTicketsDisabled: true,
	}, nil
}

// RequireIdentity returns the sender of a request, if the client certificate of the connection is one that v accepts
// now (a connection may outlive its certificate) and has one of the roles; without roles, any. The error wraps
// ErrUnauthenticated or ErrForbidden.
func RequireIdentity(r *http.Request, v identity.Verifier, roles ...identity.Role) (identity.Identity, error) {
	// Without a verified chain the certificates prove nothing.
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return identity.Identity{}, ErrUnauthenticated
	}
	id, err := v.Verify(r.TLS.PeerCertificates[0], time.Now())
	if err != nil {
		return identity.Identity{}, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	if len(roles) > 0 && !slices.Contains(roles, id.Role) {
		return identity.Identity{}, fmt.Errorf("%w: %s is none of %v", ErrForbidden, id, roles)
	}
	return id, nil
}

// verifyServer checks a server's certificate against the authority alone.
func verifyServer(leaf, ca *x509.Certificate, serverName string) error {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName:       serverName,
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
