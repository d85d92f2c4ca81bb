// Package record defines the records that an overlay distributes: signed statements of the form
// "this control-plane node serves this name at these addresses until then".
//
// A [Record] is such a statement; a [Signed] is a record with the publisher's certificate and signature, the only form
// that crosses a network; a [Set] is an overlay's state. Sets merge by taking, for each publisher and name, the
// greater record in one total order. So merging is commutative, associative and idempotent, and peers converge
// whatever the order of messages.
//
// The package is pure: no I/O, and time is an argument. A [Verifier] decides which publishers are accepted; nothing
// unverified enters a Set.
package record

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"
)

// Bounds on a single record. They keep a signed record, certificate included,
// inside one gossip datagram and make hostile input cheap to refuse.
const (
	MaxAddrs    = 16
	MaxEncoded  = 1200 // bytes of a Signed on the wire
	MaxLifetime = 10 * time.Minute
)

// Record is one publisher's statement about one name.
type Record struct {
	Name      string           // fully qualified, lower case, no trailing dot
	Publisher string           // node name as in the publisher's certificate
	Addrs     []netip.AddrPort // at most MaxAddrs; empty withdraws the name
	Clock     Clock            // orders statements of one publisher
	Expires   time.Time        // to the millisecond; at most MaxLifetime after Clock
}

// Withdrawn reports whether the publisher has withdrawn the name.
func (r Record) Withdrawn() bool { return len(r.Addrs) == 0 }

// Live reports whether r has addresses and has not expired at time now.
func (r Record) Live(now time.Time) bool { return !r.Withdrawn() && now.Before(r.Expires) }

// Signed is a record with the exact bytes that were signed, the publisher's certificate and the signature. The zero
// value is not valid.
type Signed struct {
	Record

	payload   []byte // DER of the wireRecord; what the signature covers
	cert      []byte // DER of the publisher's certificate
	signature []byte
}

// The wire form is DER: canonical, so equal records are equal bytes; bounded;
// and already linked through crypto/x509.
type wireRecord struct {
	Version   int
	Name      string `asn1:"utf8"`
	Publisher string `asn1:"utf8"`
	Addrs     [][]byte
	Clock     int64
	Expires   int64 // Unix milliseconds
}

type wireSigned struct {
	Payload   []byte
	Cert      []byte
	Signature []byte
}

const wireVersion = 1

// signContext separates these signatures from any other use of the node's key.
const signContext = "muster record v1\x00"

// Sign signs r with key, whose certificate is certDER. It fails if r exceeds a bound of this package, or the encoded
// result MaxEncoded.
func Sign(r Record, certDER []byte, key crypto.Signer) (Signed, error) {
	if err := r.validate(); err != nil {
		return Signed{}, err
	}
	r.Expires = r.Expires.Truncate(time.Millisecond)
	w := wireRecord{Version: wireVersion, Name: r.Name, Publisher: r.Publisher, Clock: int64(r.Clock), Expires: r.Expires.UnixMilli()}
	for _, a := range r.Addrs {
		b, err := a.MarshalBinary()
		if err != nil {
			return Signed{}, fmt.Errorf("encode address %s: %w", a, err)
		}
		w.Addrs = append(w.Addrs, b)
	}
	payload, err := asn1.Marshal(w)
	if err != nil {
		return Signed{}, fmt.Errorf("encode record %q: %w", r.Name, err)
	}
	sig, err := sign(key, payload)
	if err != nil {
		return Signed{}, fmt.Errorf("sign record %q: %w", r.Name, err)
	}
	s := Signed{Record: r, payload: payload, cert: certDER, signature: sig}
	if n := len(s.Encode()); n > MaxEncoded {
		return Signed{}, fmt.Errorf("record %q takes %d bytes with its certificate; at most %d fit a datagram", r.Name, n, MaxEncoded)
	}
	return s, nil
}

// Encode returns s in its wire form.
func (s Signed) Encode() []byte {
	b, err := asn1.Marshal(wireSigned{Payload: s.payload, Cert: s.cert, Signature: s.signature})
	if err != nil {
		// Three byte strings always marshal.
		panic(err)
	}
	return b
}

// Decode reads the wire form. The result is well formed but not verified: see [Verifier.Verify].
func Decode(b []byte) (Signed, error) {
	if len(b) > MaxEncoded {
		return Signed{}, fmt.Errorf("record of %d bytes; at most %d", len(b), MaxEncoded)
	}
	ws, err := unmarshal[wireSigned](b)
	if err != nil {
		return Signed{}, fmt.Errorf("decode signed record: %w", err)
	}
	w, err := unmarshal[wireRecord](ws.Payload)
	if err != nil {
		return Signed{}, fmt.Errorf("decode record: %w", err)
	}
	if w.Version != wireVersion {
		return Signed{}, fmt.Errorf("record version %d; this program speaks %d", w.Version, wireVersion)
	}
	if len(w.Addrs) > MaxAddrs {
		return Signed{}, fmt.Errorf("record %q holds %d addresses; at most %d", w.Name, len(w.Addrs), MaxAddrs)
	}
	r := Record{Name: w.Name, Publisher: w.Publisher, Clock: Clock(w.Clock), Expires: time.UnixMilli(w.Expires)}
	for _, raw := range w.Addrs {
		var a netip.AddrPort
		if err := a.UnmarshalBinary(raw); err != nil {
			return Signed{}, fmt.Errorf("record %q: address: %w", w.Name, err)
		}
		r.Addrs = append(r.Addrs, a)
	}
	if err := r.validate(); err != nil {
		return Signed{}, err
	}
	return Signed{Record: r, payload: ws.Payload, cert: ws.Cert, signature: ws.Signature}, nil
}

// unmarshal decodes b, which must be the canonical encoding of a T. encoding/asn1 alone would skip further fields and
// accept other string types, so that one record could have many encodings.
func unmarshal[T any](b []byte) (T, error) {
	var v, none T
	rest, err := asn1.Unmarshal(b, &v)
	if err != nil {
		return none, err
	}
	if len(rest) > 0 {
		return none, fmt.Errorf("%d bytes after the end", len(rest))
	}
	if again, err := asn1.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return none, errors.New("not canonical DER")
	}
	return v, nil
}

func (r Record) validate() error {
	if r.Name == "" || r.Publisher == "" {
		return errors.New("record without a name or a publisher")
	}
	if len(r.Name) > 253 || len(r.Publisher) > 253 {
		return errors.New("record with a name of over 253 characters")
	}
	if !utf8.ValidString(r.Name) || !utf8.ValidString(r.Publisher) {
		return fmt.Errorf("record %q from %q: names that are not UTF-8", r.Name, r.Publisher)
	}
	if len(r.Addrs) > MaxAddrs {
		return fmt.Errorf("record %q holds %d addresses; at most %d", r.Name, len(r.Addrs), MaxAddrs)
	}
	for _, a := range r.Addrs {
		if !usable(a) {
			return fmt.Errorf("record %q: %s cannot be an API address", r.Name, a)
		}
	}
	if r.Clock < 0 {
		return fmt.Errorf("record %q: clock before 1970", r.Name)
	}
	if r.Expires.Sub(r.Clock.Time()) > MaxLifetime {
		return fmt.Errorf("record %q lives %v; at most %v", r.Name, r.Expires.Sub(r.Clock.Time()), MaxLifetime)
	}
	return nil
}

// usable reports whether a can be a server's address. Loopback is allowed: the Verifier checks the cluster's
// networks.
func usable(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.IsValid() && a.Port() != 0 && ip.Zone() == "" && !ip.Is4In6() && !ip.IsUnspecified() && !ip.IsMulticast()
}

// Compare is the total order of merging: by clock, then by the signed bytes, the certificate and the signature.
func (s Signed) Compare(o Signed) int {
	if c := cmp.Compare(s.Clock, o.Clock); c != 0 {
		return c
	}
	if c := bytes.Compare(s.payload, o.payload); c != 0 {
		return c
	}
	// The same record under a renewed certificate, or signed twice by a scheme that is not deterministic: any choice
	// will do if it is the same everywhere.
	if c := bytes.Compare(s.cert, o.cert); c != 0 {
		return c
	}
	return bytes.Compare(s.signature, o.signature)
}

func sign(key crypto.Signer, payload []byte) ([]byte, error) {
	msg := append([]byte(signContext), payload...)
	return crypto.SignMessage(key, rand.Reader, msg, hashFor(key.Public()))
}

// checkSignature verifies with the algorithm implied by the certificate's key.
func checkSignature(c *x509.Certificate, payload, sig []byte) error {
	alg := x509.PureEd25519
	if hashFor(c.PublicKey) != crypto.Hash(0) {
		alg = x509.ECDSAWithSHA256
	}
	return c.CheckSignature(alg, append([]byte(signContext), payload...), sig)
}
