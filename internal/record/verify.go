package record

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// Reasons for rejecting a record. The overlay counts rejections by their text, so the set is closed.
var (
	ErrIdentity  = errors.New("publisher is not a control-plane node of this cluster")
	ErrSignature = errors.New("signature does not match")
	ErrName      = errors.New("name does not belong to the cluster")
	ErrNetwork   = errors.New("address outside the cluster's networks")
	ErrFuture    = errors.New("clock too far ahead")
	ErrExpired   = errors.New("expired")
)

// MaxSkew is how far a record's clock may be ahead of the reader's: more than a machine with synchronised time is
// ever off, but so little that a record "from the future" cannot win against later ones for long.
const MaxSkew = time.Minute

// Verifier decides which records are accepted. It is immutable and safe for concurrent use.
type Verifier struct {
	// Identity verifies publishers' certificates. Required.
	Identity identity.Verifier
	// Names are the only names that may be published. Required.
	Names []string
	// Networks must contain the addresses; empty allows any.
	Networks []netip.Prefix
}

// Verify returns nil if s is to be accepted at time now. The error wraps one of the reasons above.
func (v Verifier) Verify(s Signed, now time.Time) error {
	if !slices.Contains(v.Names, s.Name) {
		return fmt.Errorf("record %q from %q: %w", s.Name, s.Publisher, ErrName)
	}
	if ahead := s.Clock.Time().Sub(now); ahead > MaxSkew {
		return fmt.Errorf("record %q from %q: %w: %v", s.Name, s.Publisher, ErrFuture, ahead.Truncate(time.Second))
	}
	if !now.Before(s.Expires) {
		return fmt.Errorf("record %q from %q: %w", s.Name, s.Publisher, ErrExpired)
	}
	for _, a := range s.Addrs {
		if !v.inside(a.Addr()) {
			return fmt.Errorf("record %q from %q: %s: %w", s.Name, s.Publisher, a, ErrNetwork)
		}
	}
	cert, err := x509.ParseCertificate(s.cert)
	if err != nil {
		return fmt.Errorf("record %q from %q: %w: %w", s.Name, s.Publisher, ErrIdentity, err)
	}
	id, err := v.Identity.Verify(cert, now)
	if err != nil {
		return fmt.Errorf("record %q from %q: %w: %w", s.Name, s.Publisher, ErrIdentity, err)
	}
	if id.Role != identity.ControlPlane || id.Node != s.Publisher {
		return fmt.Errorf("record %q from %q signed by %s: %w", s.Name, s.Publisher, id, ErrIdentity)
	}
	if err := checkSignature(cert, s.payload, s.signature); err != nil {
		return fmt.Errorf("record %q from %q: %w: %w", s.Name, s.Publisher, ErrSignature, err)
	}
	return nil
}

func (v Verifier) inside(ip netip.Addr) bool {
	return len(v.Networks) == 0 || slices.ContainsFunc(v.Networks, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// hashFor returns the hash to sign with: none for Ed25519, which hashes itself.
func hashFor(pub crypto.PublicKey) crypto.Hash {
	if _, ok := pub.(ed25519.PublicKey); ok {
		return crypto.Hash(0)
	}
	return crypto.SHA256
}
