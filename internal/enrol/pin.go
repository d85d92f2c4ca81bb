package enrol

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
)

const pinPrefix = "sha256:"

// A Pin names a certificate authority by the SHA-256 of its public key
// (SubjectPublicKeyInfo), in the text form that kubeadm uses for
// --discovery-token-ca-cert-hash: "sha256:" and 64 hexadecimal digits. A pin is
// public; it survives the authority's certificate being renewed with the same
// key. The zero value pins nothing.
type Pin [sha256.Size]byte

// PinOf returns the pin of an authority's certificate.
func PinOf(ca *x509.Certificate) Pin { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }

// ParsePin reads the text form. Digits of either case are understood.
func ParsePin(s string) (Pin, error) {
	digits, ok := strings.CutPrefix(s, pinPrefix)
	if !ok {
		return Pin{}, fmt.Errorf("pin %q does not start with %q", s, pinPrefix)
	}
	if len(digits) != 2*sha256.Size {
		return Pin{}, fmt.Errorf("pin %q has %d digits after %q; want %d", s, len(digits), pinPrefix, 2*sha256.Size)
	}
	var p Pin
	if _, err := hex.Decode(p[:], []byte(digits)); err != nil {
		return Pin{}, fmt.Errorf("pin %q: %w", s, err)
	}
	if p.IsZero() {
		return Pin{}, fmt.Errorf("pin %q is all zeros and matches no key", s)
	}
	return p, nil
}

// IsZero reports whether p pins nothing.
func (p Pin) IsZero() bool { return p == Pin{} }

// String returns the text form.
func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

// MarshalText implements encoding.TextMarshaler.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pin) UnmarshalText(text []byte) error {
	parsed, err := ParsePin(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
