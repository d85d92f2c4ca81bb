package sshsig

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// ErrEncrypted says that a private key has a passphrase.
var ErrEncrypted = errors.New("the key has a passphrase")

// ReadKey reads a private key in PEM: OpenSSH's format, PKCS #8, PKCS #1 or SEC 1. The error never contains part of it.
func ReadKey(data []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(data)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, ErrEncrypted
	}
	if block, _ := pem.Decode(data); block != nil && block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, ErrEncrypted
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no private key that this muster reads (OpenSSH or PEM; Ed25519, ECDSA or RSA)", ErrUnreadable)
	}
	if _, err := algorithmFor(signer.PublicKey()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return signer, nil
}

// ReadPublicKey reads a public key: a line in ssh-keygen's format, or PEM.
func ReadPublicKey(data []byte) (ssh.PublicKey, error) {
	if block, _ := pem.Decode(data); block != nil {
		if public, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			if key, err := ssh.NewPublicKey(public); err == nil {
				return key, nil
			}
		}
		return nil, fmt.Errorf("%w: %s is no public key", ErrUnreadable, block.Type)
	}
	key, _, _, rest, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: no public key, as ssh-keygen or PEM has it", ErrUnreadable)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: more than one key; a file of several is for --allowed-signers", ErrUnreadable)
	}
	return key, nil
}

// Same reports whether two keys are equal.
func Same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
