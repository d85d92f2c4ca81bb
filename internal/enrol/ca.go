package enrol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// backdate is how far NotBefore lies in the past, so that a node whose clock is a little slow can use the certificate
// at once.
const backdate = 5 * time.Minute

// DefaultCALifetime is how long a new authority is valid by default: ten years.
const DefaultCALifetime = 10 * 365 * 24 * time.Hour

// ServerName is the name in the server certificates of a cluster's worker-facing API, whatever address it is reached
// at. It is not in DNS.
func ServerName(cluster string) string { return "muster.internal." + cluster }

// subjectOf is the common name of a cluster's authority. It guards against
// mixing up two clusters' files; trust comes from the key.
func subjectOf(cluster string) string { return "muster " + cluster }

// A CA is a cluster's certificate authority. It is immutable and safe for
// concurrent use.
type CA struct {
	// Certificate is the authority's own certificate. Do not modify it.
	Certificate *x509.Certificate

	cluster string
	key     crypto.Signer
}

// NewCA creates an authority for a cluster with a new ECDSA P-256 key. A lifetime of zero means [DefaultCALifetime].
// Nothing is written; see [CA.Save].
func NewCA(cluster string, now time.Time, lifetime time.Duration) (*CA, error) {
	if lifetime == 0 {
		lifetime = DefaultCALifetime
	}
	if lifetime < 0 {
		return nil, fmt.Errorf("authority for cluster %q: lifetime %s is negative", cluster, lifetime)
	}
	// Stricter than an identity's check: the name goes into server certificates.
	if !dnsSafe(ServerName(cluster)) {
		return nil, fmt.Errorf("authority for cluster %q: not a DNS name in lower case of at most %d characters", cluster, 253-len(ServerName("")))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	hash, err := keyHash(key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		// Short, because every node certificate repeats it; see Issue.
		SubjectKeyId:          hash[:8],
		Subject:               pkix.Name{CommonName: subjectOf(cluster)},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority for cluster %q: %w", cluster, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make authority for cluster %q: %w", cluster, err)
	}
	return &CA{Certificate: cert, cluster: cluster, key: key}, nil
}

// LoadCA reads the authority of a cluster. The key file must be readable by its
// owner alone. An authority of another cluster, or two files that do not belong
// together, are refused.
func LoadCA(certFile, keyFile, cluster string) (*CA, error) {
	cert, err := readCertificate(certFile)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if err := checkCA(cert); err != nil {
		return nil, fmt.Errorf("load authority: %s: %w", certFile, err)
	}
	if cert.Subject.CommonName != subjectOf(cluster) {
		return nil, fmt.Errorf("load authority: %s: is %q, not the authority of cluster %q", certFile, cert.Subject.CommonName, cluster)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if !samePublicKey(key.Public(), cert.PublicKey) {
		return nil, fmt.Errorf("load authority: %s is not the key of %s", keyFile, certFile)
	}
	return &CA{Certificate: cert, cluster: cluster, key: key}, nil
}

// checkCA returns an error unless cert is a self-signed authority. The signature matters: a pin covers only the key,
// and the signature ties the rest of the certificate to it.
func checkCA(cert *x509.Certificate) error {
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return errors.New("not a certificate authority")
	}
	if err := checkPublicKey(cert.PublicKey); err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return fmt.Errorf("not signed by its own key: %w", err)
	}
	return nil
}

// Save writes the authority's certificate (mode 0644) and key (mode 0600). It refuses to replace either file, because
// a lost authority cannot be restored.
func (ca *CA) Save(certFile, keyFile string) error {
	if err := refuseExisting(certFile, keyFile); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	key, err := encodeKey(ca.key)
	if err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	// The key first: a certificate without a key would look like an authority.
	if err := writeFile(keyFile, key, 0o600); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	if err := writeFile(certFile, ca.PEM(), 0o644); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	return nil
}

// PEM returns the authority's certificate, never its key.
func (ca *CA) PEM() []byte { return encodeCertificate(ca.Certificate.Raw) }

// Verifier returns a verifier of this authority's certificates for this cluster.
func (ca *CA) Verifier() identity.Verifier { return verifierOf(ca.Certificate, ca.cluster) }

func verifierOf(ca *x509.Certificate, cluster string) identity.Verifier {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return identity.Verifier{Roots: pool, Cluster: cluster}
}

func caPaths(dir string) (cert, key string) {
	return filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
}
