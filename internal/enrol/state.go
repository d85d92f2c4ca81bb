package enrol

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateDir is the directory that holds a node's key, certificate and authority.
//
// Key and certificate must change together, but no file system replaces two files at once. So a renewal writes the
// new key as node.key.next, replaces the certificate, and only then renames the key. A reader takes the key that fits
// the certificate, so it finds a matching pair at any time, also after a crash.
type stateDir string

func (d stateDir) key() string     { return filepath.Join(string(d), "node.key") }
func (d stateDir) nextKey() string { return filepath.Join(string(d), "node.key.next") }
func (d stateDir) cert() string    { return filepath.Join(string(d), "node.crt") }
func (d stateDir) ca() string      { return filepath.Join(string(d), "ca.crt") }

// sameFile reports whether two results of Stat show the same file with the same contents, as far as inode, time and
// size tell.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// readPair returns the certificate and the key that belongs to it. Without
// a certificate the error is fs.ErrNotExist; without its key it is not.
func (d stateDir) readPair() (*tls.Certificate, error) {
	pair, err := d.tryReadPair()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Retry: a renewal in another process may have replaced one file between the reads.
		pair, err = d.tryReadPair()
	}
	return pair, err
}

func (d stateDir) tryReadPair() (*tls.Certificate, error) {
	leaf, err := readCertificate(d.cert())
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, path := range []string{d.nextKey(), d.key()} {
		key, err := readKey(path)
		if err == nil && samePublicKey(key.Public(), leaf.PublicKey) {
			return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return nil, fmt.Errorf("%s: its key is not in %s; remove the certificate and enrol again", d.cert(), d.key())
}

// promote completes a renewal that was interrupted after the certificate was replaced. Only writers may call it.
func (d stateDir) promote() error {
	next, err := readKey(d.nextKey())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	leaf, err := readCertificate(d.cert())
	if err != nil {
		return err
	}
	if !samePublicKey(next.Public(), leaf.PublicKey) {
		return nil // interrupted earlier: the key has no certificate yet
	}
	return renameFile(d.nextKey(), d.key())
}

// ensureKey returns the key at path, creating it durably if there is none. A key that survived a crash is used again,
// so that a token bound to it stays valid.
func (d stateDir) ensureKey(path string) (crypto.Signer, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, err = newNodeKey()
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	if err := writeFile(path, data, 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

// writeIssued stores the result of an enrolment. The certificate comes last, because it marks the node as enrolled.
// An expired one is removed first: a crash must not leave it beside another authority, which only an operator could
// resolve.
func (d stateDir) writeIssued(cert, ca *x509.Certificate) error {
	if err := os.Remove(d.cert()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeFile(d.ca(), encodeCertificate(ca.Raw), 0o644); err != nil {
		return err
	}
	return writeFile(d.cert(), encodeCertificate(cert.Raw), 0o644)
}

// writeRenewed replaces the certificate by one for the next key, and promotes that.
func (d stateDir) writeRenewed(cert *x509.Certificate) error {
	if err := writeFile(d.cert(), encodeCertificate(cert.Raw), 0o644); err != nil {
		return err
	}
	return renameFile(d.nextKey(), d.key())
}
