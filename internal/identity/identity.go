// Package identity says who a node is: which cluster, which role, which name.
//
// In a certificate, an identity is a URI subject alternative name of the form muster://CLUSTER/ROLE/NODE; neither the
// common name nor an address ever counts. The package is pure: it parses, compares and verifies identities. Package
// enrol issues them.
package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Role decides what a node may do.
type Role string

const (
	// ControlPlane may publish records and serve the worker-facing API.
	ControlPlane Role = "control-plane"
	// Worker may read the endpoint stream and nothing else.
	Worker Role = "worker"
)

// Valid reports whether r is a role this package knows.
func (r Role) Valid() bool { return r == ControlPlane || r == Worker }

// scheme is the URI scheme of an identity. URI names are SPIFFE's idea; the scheme is our own because we promise none
// of SPIFFE's semantics.
const scheme = "muster"

// Identity names one node of one cluster.
type Identity struct {
	Cluster string
	Role    Role
	Node    string
}

// String returns the identity as its URI.
func (id Identity) String() string { return id.URI().String() }

// URI returns the form that certificates contain.
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: id.Cluster, Path: "/" + string(id.Role) + "/" + id.Node}
}

// Validate returns nil if id can be put in a certificate, or all reasons why not, joined.
func (id Identity) Validate() error {
	var errs []error
	if err := checkName("cluster", id.Cluster, 253); err != nil {
		errs = append(errs, err)
	}
	if !id.Role.Valid() {
		errs = append(errs, fmt.Errorf("role %q; want %q or %q", id.Role, ControlPlane, Worker))
	}
	if err := checkName("node", id.Node, 253); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkName accepts the characters of cloud instance names and host names, none of which needs quoting in a URI, a
// file name or a log line.
func checkName(what, s string, limit int) error {
	if s == "" {
		return fmt.Errorf("%s name is empty", what)
	}
	if len(s) > limit {
		return fmt.Errorf("%s name has %d characters; at most %d", what, len(s), limit)
	}
	if s[0] == '.' || s[0] == '-' {
		return fmt.Errorf("%s name %q starts with %q", what, s, s[0])
	}
	// A certificate with an empty label could be issued but not read: crypto/x509 does not parse a URI whose host has
	// one.
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

// Parse reads an identity from its URI. Only the canonical spelling is accepted, without escapes or anything added,
// so that comparing strings and comparing identities never disagree.
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

// FromCertificate returns the identity that a certificate claims, without verifying the certificate: unless a TLS
// handshake has done that, use [Verifier.Verify]. A certificate must have exactly one muster URI.
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
	// No intermediates: only the root issues identities.
	_, err := c.Verify(x509.VerifyOptions{
		Roots:         v.Roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return Identity{}, fmt.Errorf("verify certificate claiming %q: %w", describe(c), err)
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

// describe names a refused certificate in an error: the identity that it claims, or else its subject.
func describe(c *x509.Certificate) string {
	if id, err := FromCertificate(c); err == nil {
		return id.String()
	}
	return c.Subject.String()
}
