package enrol

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// DefaultLifetime is how long a node's certificate is valid. Nodes renew at two thirds of it, so a machine may be off
// for four months and return without a new token.
const DefaultLifetime = 365 * 24 * time.Hour

// IssueOptions says what a certificate holds besides identity and key. The zero
// value is right for a worker.
type IssueOptions struct {
	// DNSNames are DNS names of the node's server; control-plane nodes only.
	DNSNames []string
	// IPs are addresses of the node's server; control-plane nodes only.
	IPs []netip.Addr
	// Lifetime counts from Now. Zero means DefaultLifetime. A certificate never outlives its authority.
	Lifetime time.Duration
	// Now is the time of issue. Zero means time.Now.
	Now time.Time
}

func (o IssueOptions) validate(id identity.Identity) error {
	var errs []error
	if id.Role != identity.ControlPlane && len(o.DNSNames)+len(o.IPs) > 0 {
		errs = append(errs, fmt.Errorf("a %s serves nobody and gets no names or addresses", id.Role))
	}
	for _, n := range o.DNSNames {
		if !dnsSafe(n) {
			errs = append(errs, fmt.Errorf("server name %q is not a DNS name in lower case", n))
		}
	}
	for _, a := range o.IPs {
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			errs = append(errs, fmt.Errorf("server address %q is not one that a node can be reached at", a))
		}
	}
	if o.Lifetime < 0 {
		errs = append(errs, fmt.Errorf("lifetime %s is negative", o.Lifetime))
	}
	return errors.Join(errs...)
}

// Issue returns a certificate, in DER, for a node with the public key pub. The caller has verified that the node
// holds the key and is who id says.
//
// The identity is the certificate's one URI name; the subject is empty. Every
// node may authenticate as a client, control-plane nodes as a server too.
// Certificates stay small because each record in the overlay carries its
// publisher's, in one UDP packet.
func (ca *CA) Issue(pub crypto.PublicKey, id identity.Identity, o IssueOptions) ([]byte, error) {
	if err := errors.Join(id.Validate(), checkPublicKey(pub), o.validate(id)); err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	if id.Cluster != ca.cluster {
		return nil, fmt.Errorf("issue certificate for %s: this is the authority of cluster %q", id, ca.cluster)
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	if !now.Before(ca.Certificate.NotAfter) {
		return nil, fmt.Errorf("issue certificate for %s: the authority itself expired at %s", id, ca.Certificate.NotAfter.Format(time.RFC3339))
	}
	template, err := ca.template(id, o, now)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	// Never return a certificate that would not verify.
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	got, err := ca.Verifier().Verify(cert, now)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	if got != id {
		return nil, fmt.Errorf("issue certificate for %s: it reads back as %s", id, got)
	}
	return der, nil
}

func (ca *CA) template(id identity.Identity, o IssueOptions, now time.Time) (*x509.Certificate, error) {
	lifetime := o.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	notAfter := now.Add(lifetime)
	if notAfter.After(ca.Certificate.NotAfter) {
		notAfter = ca.Certificate.NotAfter
	}
	// 8 bytes where crypto/x509 would use 20: enough to tell a cluster's certificates apart, which is all that
	// serials are for here.
	serial := make([]byte, 8)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] &= 0x7f
	// No basic constraints: their absence also says that this is no authority, and saves 14 bytes.
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		NotBefore:    now.Add(-backdate),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{id.URI()},
		DNSNames:     o.DNSNames,
	}
	if id.Role == identity.ControlPlane {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, a := range o.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.Unmap().AsSlice()))
	}
	return t, nil
}

// CheckNodeName returns an error unless a node can be enrolled under name. Kubernetes requires node names to be DNS
// names in lower case.
func CheckNodeName(name string) error {
	if !dnsSafe(name) {
		return fmt.Errorf("node %q is not a DNS name in lower case", name)
	}
	return nil
}

// dnsSafe reports whether s is a DNS name as Kubernetes wants node names:
// labels of lower-case letters, digits and inner hyphens, 253 in all.
func dnsSafe(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			c := s[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
			continue
		}
		label := s[start:i]
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		start = i + 1
	}
	return true
}
