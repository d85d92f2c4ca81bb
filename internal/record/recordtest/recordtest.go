// Package recordtest makes certificate authorities, node certificates and signed records for tests. No program links
// it. Keys are Ed25519, as in production, so sizes are realistic.
package recordtest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/record"
)

// CA is a throw-away certificate authority.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA returns an authority that is valid for a day either side of now.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	return newCA(tb, nil)
}

// Intermediate returns an authority whose certificate ca has signed.
func (ca *CA) Intermediate(tb testing.TB) *CA {
	tb.Helper()
	return newCA(tb, ca)
}

func newCA(tb testing.TB, parent *CA) *CA {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	ca := &CA{key: key}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "muster test"},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	signer := &CA{cert: template, key: key}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		tb.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return ca
}

// DER returns the authority's own certificate.
func (ca *CA) DER() []byte { return ca.cert.Raw }

// Verifier returns a verifier that accepts records of the given names, with any address, from control-plane nodes of
// cluster with certificates of ca.
func (ca *CA) Verifier(cluster string, names ...string) record.Verifier {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return record.Verifier{Identity: identity.Verifier{Roots: pool, Cluster: cluster}, Names: names}
}

// Node holds a certificate and its key.
type Node struct {
	Cert []byte // DER
	Key  crypto.Signer
}

// Issue makes an Ed25519 key and a node certificate for id that is valid for an hour either side of now. Each change is
// applied to the certificate before it is signed.
func (ca *CA) Issue(tb testing.TB, id identity.Identity, changes ...func(*x509.Certificate)) Node {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return ca.IssueFor(tb, key, id, changes...)
}

// IssueFor is Issue for a key that the caller made.
func (ca *CA) IssueFor(tb testing.TB, key crypto.Signer, id identity.Identity, changes ...func(*x509.Certificate)) Node {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: id.Node},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{id.URI()},
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	return Node{Cert: der, Key: key}
}

// ControlPlane is Issue for a control-plane node.
func (ca *CA) ControlPlane(tb testing.TB, cluster, node string) Node {
	tb.Helper()
	return ca.Issue(tb, identity.Identity{Cluster: cluster, Role: identity.ControlPlane, Node: node})
}

// Failer is the part of testing.TB that Sign needs; rapid's T has it too.
type Failer interface {
	Helper()
	Fatal(args ...any)
}

// Sign signs r as n.
func (n Node) Sign(tb Failer, r record.Record) record.Signed {
	tb.Helper()
	s, err := record.Sign(r, n.Cert, n.Key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
