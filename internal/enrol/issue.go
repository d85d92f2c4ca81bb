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

// DefaultLifetime is for how long a node's certificate is good. Nodes renew at
// two thirds of it, so a machine may be switched off for four months and come
// back without a new token.
const DefaultLifetime = 365 * 24 * time.Hour

// IssueOptions says what a certificate holds besides identity and key. The zero
// value is right for a worker.
type IssueOptions struct {
	// DNSNames are names the node's server proves; control-plane nodes only.
	DNSNames []string
	// IPs are addresses the node's server proves; control-plane nodes only.
	IPs []netip.Addr
	// Lifetime is counted from Now. Zero means DefaultLifetime. A certificate
	// never outlives its authority, whatever is asked.
	Lifetime time.Duration
	// Now is when the certificate is made. Zero means time.Now.
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

// Issue makes a certificate, in DER, for a node whose public key is pub. The
// caller has made sure that the node holds the key and is who id says.
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
	// What nobody could use is not handed out.
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
	// 8 bytes where crypto/x509 would draw 20: enough to tell a cluster's
	// certificates apart, which is all that serials are for here.
	serial := make([]byte, 8)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] &= 0x7f
	// Without basic constraints, which say that it is no authority: so does their
	// absence, in 14 bytes less.
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

// CheckNodeName reports why a node cannot be enrolled under a name: Kubernetes
// wants node names to be DNS names in lower case.
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
