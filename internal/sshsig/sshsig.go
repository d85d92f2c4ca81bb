// Package sshsig signs files and verifies signatures in OpenSSH's format, so that a report can be verified with ssh-keygen
// alone:
//
//	ssh-keygen -Y verify -f ALLOWED_SIGNERS -I WHO -n muster-report -s FILE.sig < FILE
//
// The format is OpenSSH's PROTOCOL.sshsig. The package does not sign with agents, hardware keys or certificates; use
// ssh-keygen -Y sign for these, whose signatures Verify accepts as well.
//
// # Invariants
//
//   - A signature is valid for one message in one namespace only.
//   - Weak algorithms are rejected: DSA, RSA below 2048 bits, SHA-1.
package sshsig

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

const (
	magic     = "SSHSIG"
	version   = 1
	blockType = "SSH SIGNATURE"
	minRSA    = 2048 // bits
)

var (
	// ErrBad says that a signature is not of this message, or not by a trusted key.
	ErrBad = errors.New("bad signature")
	// ErrUnreadable says that the input is not a signature or key at all.
	ErrUnreadable = errors.New("unreadable")
)

// envelope is a signature as it is stored, after the magic.
type envelope struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signed is what the key signs, after the magic.
type signed struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

func (e envelope) message(digest []byte) []byte {
	return append([]byte(magic), ssh.Marshal(signed{e.Namespace, e.Reserved, e.Hash, digest})...)
}

// Sign signs a message for a namespace, and returns an armoured signature with a final newline.
func Sign(key ssh.Signer, namespace string, message []byte) ([]byte, error) {
	algorithm, err := algorithmFor(key.PublicKey())
	if err != nil {
		return nil, err
	}
	signer, ok := key.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("sign with %s: the key cannot be asked for %s", ssh.FingerprintSHA256(key.PublicKey()), algorithm)
	}
	e := envelope{Version: version, PublicKey: key.PublicKey().Marshal(), Namespace: namespace, Hash: "sha512"}
	digest := sha512.Sum512(message)
	sig, err := signer.SignWithAlgorithm(rand.Reader, e.message(digest[:]), algorithm)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", ssh.FingerprintSHA256(key.PublicKey()), err)
	}
	e.Signature = ssh.Marshal(sig)
	return armour(append([]byte(magic), ssh.Marshal(e)...), keygenWidth), nil
}

// Line widths of an armour, in characters.
const (
	keygenWidth = 70
	pemWidth    = 64
)

func armour(blob []byte, width int) []byte {
	var b bytes.Buffer
	b.WriteString("-----BEGIN " + blockType + "-----\n")
	text := base64.StdEncoding.EncodeToString(blob)
	for line := range slices.Chunk([]byte(text), width) {
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteString("-----END " + blockType + "-----\n")
	return b.Bytes()
}

// algorithmFor returns the algorithm that a key signs with.
func algorithmFor(key ssh.PublicKey) (string, error) {
	switch t := key.Type(); t {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return t, nil
	case ssh.KeyAlgoRSA:
		if public, ok := key.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey); ok && public.N.BitLen() >= minRSA {
			return ssh.KeyAlgoRSASHA512, nil
		}
		return "", fmt.Errorf("an RSA key of fewer than %d bits proves nothing; use Ed25519, ECDSA or a longer one", minRSA)
	default:
		return "", fmt.Errorf("a key of type %s is not used; want Ed25519, ECDSA or RSA", t)
	}
}

// Verify checks an armoured signature of a message in a namespace and returns the key that made it. The caller decides
// whether that key is trusted. The error wraps ErrBad, or ErrUnreadable if the input is not a signature.
func Verify(namespace string, message, armoured []byte) (ssh.PublicKey, error) {
	e, key, sig, err := parse(armoured)
	if err != nil {
		return nil, err
	}
	if e.Namespace != namespace {
		return nil, fmt.Errorf("%w: made for %q, not for %q", ErrBad, clip(e.Namespace), namespace)
	}
	var digest []byte
	switch e.Hash {
	case "sha512":
		sum := sha512.Sum512(message)
		digest = sum[:]
	case "sha256":
		sum := sha256.Sum256(message)
		digest = sum[:]
	default:
		return nil, fmt.Errorf("%w: hash %q is not used", ErrBad, clip(e.Hash))
	}
	want, err := algorithmFor(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if sig.Format != want && (key.Type() != ssh.KeyAlgoRSA || sig.Format != ssh.KeyAlgoRSASHA256) {
		return nil, fmt.Errorf("%w: %s by a key of type %s", ErrBad, clip(sig.Format), key.Type())
	}
	if err := key.Verify(e.message(digest), sig); err != nil {
		return nil, fmt.Errorf("%w: it is not of these bytes", ErrBad)
	}
	return key, nil
}

// parse decodes a signature. Anything before or after the armour, and any other encoding than that of Sign or ssh-keygen,
// is rejected, so that no byte of a signature can change unnoticed.
func parse(armoured []byte) (e envelope, key ssh.PublicKey, sig *ssh.Signature, err error) {
	unreadable := func(format string, args ...any) (envelope, ssh.PublicKey, *ssh.Signature, error) {
		return e, nil, nil, fmt.Errorf("%w: %s", ErrUnreadable, fmt.Sprintf(format, args...))
	}
	if !bytes.HasPrefix(armoured, []byte("-----BEGIN "+blockType)) {
		return unreadable("it does not begin like a signature of OpenSSH's")
	}
	block, _ := pem.Decode(armoured)
	if block == nil || !slices.ContainsFunc([]int{pemWidth, keygenWidth}, func(width int) bool { return bytes.Equal(armoured, armour(block.Bytes, width)) }) {
		return unreadable("the armour is broken")
	}
	blob, ok := bytes.CutPrefix(block.Bytes, []byte(magic))
	if !ok {
		return unreadable("no %s in it", magic)
	}
	if err := ssh.Unmarshal(blob, &e); err != nil {
		return unreadable("%v", err)
	}
	if e.Version != version || e.Reserved != "" {
		return unreadable("version %d, and this muster reads %d", e.Version, version)
	}
	if key, err = ssh.ParsePublicKey(e.PublicKey); err != nil {
		return unreadable("its key: %v", err)
	}
	sig = new(ssh.Signature)
	if err := ssh.Unmarshal(e.Signature, sig); err != nil {
		return unreadable("%v", err)
	}
	return e, key, sig, nil
}

func clip(s string) string { return s[:min(len(s), 40)] }
