// Package testca creates certificates for tests with TLS servers. They are valid for a day.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The files that Write creates.
const (
	CA   = "ca.crt"
	Cert = "api.crt"
	Key  = "api.key"
)

// Write writes a new CA's certificate, and a certificate and key for a server name, into dir.
func Write(t testing.TB, dir, serverName string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sign := func(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) []byte {
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
		must(err)
		return der
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER := sign(ca, ca, &caKey.PublicKey, caKey)
	parent, err := x509.ParseCertificate(caDER)
	must(err)
	server := &x509.Certificate{DNSNames: []string{serverName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(err)
	for name, block := range map[string]*pem.Block{
		CA:   {Type: "CERTIFICATE", Bytes: caDER},
		Cert: {Type: "CERTIFICATE", Bytes: sign(server, parent, &key.PublicKey, caKey)},
		Key:  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		must(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
}
