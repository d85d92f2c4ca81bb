// Package identity says who a node is: which cluster, which role, which name.
//
// An identity lives in a certificate as a URI subject alternative name of the
// form muster://CLUSTER/ROLE/NODE and nowhere else: neither the common name nor
// an address is ever believed. The package is pure; it parses, compares and
// verifies, and issues nothing (package enrol does).
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Role is what a node may do to discovery.
type Role string

const (
	// ControlPlane may publish records and serve the worker-facing API.
	ControlPlane Role = "control-plane"
	// Worker may read the endpoint stream and nothing else.
	Worker Role = "worker"
)

// Valid reports whether r is a role this package knows.
func (r Role) Valid() bool { return r == ControlPlane || r == Worker }

// scheme is the URI scheme of an identity. The idea of a URI name is SPIFFE's;
// the scheme is our own because we promise none of SPIFFE's semantics.
const scheme = "muster"

// Identity names one node of one cluster.
type Identity struct {
	Cluster string
	Role    Role
	Node    string
}

// String returns the identity as its URI.
func (id Identity) String() string { return id.URI().String() }

// URI returns the form that stands in certificates.
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: id.Cluster, Path: "/" + string(id.Role) + "/" + id.Node}
}

// Validate reports every reason why id cannot stand in a certificate.
func (id Identity) Validate() error {
	var errs []error
	if err := checkLabel("cluster", id.Cluster, 253); err != nil {
		errs = append(errs, err)
	}
	if !id.Role.Valid() {
		errs = append(errs, fmt.Errorf("role %q; want %q or %q", id.Role, ControlPlane, Worker))
	}
	if err := checkLabel("node", id.Node, 253); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkLabel admits what cloud instance names and host names are made of. The
// set excludes everything that a URI, a file name or a log line would quote.
func checkLabel(what, s string, limit int) error {
	if s == "" {
		return fmt.Errorf("%s name is empty", what)
	}
	if len(s) > limit {
		return fmt.Errorf("%s name has %d characters; at most %d", what, len(s), limit)
	}
	if s[0] == '.' || s[0] == '-' {
		return fmt.Errorf("%s name %q starts with %q", what, s, s[0])
	}
	// An empty label would be issued and then refused: crypto/x509 does not
	// parse a URI whose host has one.
	if strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return fmt.Errorf("%s name %q holds an empty label", what, s)
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		default:
			return fmt.Errorf("%s name %q holds %q; letters, digits, '-', '.' and '_' only", what, s, r)
		}
	}
	return nil
}

// Parse reads an identity from its URI. An identity has one spelling: an
// escaped or otherwise decorated form of the same name is refused, so that
// comparing strings and comparing identities never disagree.
func Parse(u *url.URL) (Identity, error) {
	if u.Scheme != scheme {
		return Identity{}, fmt.Errorf("identity %q is not of the form %s://CLUSTER/ROLE/NODE", u, scheme)
	}
	parts := strings.Split(u.Path, "/")
	if len(parts) != 3 || parts[0] != "" {
		return Identity{}, fmt.Errorf("identity %q is not of the form %s://CLUSTER/ROLE/NODE", u, scheme)
	}
	id := Identity{Cluster: u.Host, Role: Role(parts[1]), Node: parts[2]}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("identity %q: %w", u, err)
	}
	if id.String() != u.String() {
		return Identity{}, fmt.Errorf("identity %q is spelled %q", u, id)
	}
	return id, nil
}

// FromCertificate reads the identity that a certificate claims. It verifies
// nothing: callers that have not come through a verified TLS handshake use
// [Verifier.Verify]. A certificate must carry exactly one muster URI.
func FromCertificate(c *x509.Certificate) (Identity, error) {
	var found []*url.URL
	for _, u := range c.URIs {
		if u.Scheme == scheme {
			found = append(found, u)
		}
	}
	if len(found) != 1 {
		return Identity{}, fmt.Errorf("certificate carries %d %s:// identities; want 1", len(found), scheme)
	}
	return Parse(found[0])
}

// A Verifier decides which certificates belong to one cluster. The zero value
// accepts none. It is immutable and safe for concurrent use.
type Verifier struct {
	Roots   *x509.CertPool
	Cluster string
}

// Verify returns the identity of c if it chains to the cluster's roots at time
// now, may authenticate a client, and names the verifier's cluster.
func (v Verifier) Verify(c *x509.Certificate, now time.Time) (Identity, error) {
	if v.Roots == nil {
		return Identity{}, errors.New("no certificate authority configured")
	}
	// No intermediates: identities are issued by the root alone.
	_, err := c.Verify(x509.VerifyOptions{
		Roots:         v.Roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Identity{}, fmt.Errorf("verify certificate claiming %q: %w", claim(c), err)
	}
	id, err := FromCertificate(c)
	if err != nil {
		return Identity{}, err
	}
	if id.Cluster != v.Cluster {
		return Identity{}, fmt.Errorf("certificate of %s belongs to another cluster; this one is %q", id, v.Cluster)
	}
	return id, nil
}

// claim is what an error calls a certificate that was refused: the identity it
// asks for, which nobody has proven, or else its subject.
func claim(c *x509.Certificate) string {
	if id, err := FromCertificate(c); err == nil {
		return id.String()
	}
	return c.Subject.String()
}
