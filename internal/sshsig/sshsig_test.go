package sshsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

const space = "muster-report"

// keys returns a private key of each kind in each format.
func keys(t testing.TB) map[string][]byte {
	t.Helper()
	all, err := generated()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// generated generates the keys once, because RSA is slow.
var generated = sync.OnceValues(func() (map[string][]byte, error) {
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	ec, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for name, key := range map[string]crypto.PrivateKey{"ed25519": ed, "ecdsa": ec, "rsa": rs} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		all[name+" in PKCS #8"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		block, err := ssh.MarshalPrivateKey(key, "operator@example")
		if err != nil {
			return nil, err
		}
		all[name+" in OpenSSH's format"] = pem.EncodeToMemory(block)
	}
	return all, nil
})

func TestEachKindOfKeySignsAndVerifies(t *testing.T) {
	message := []byte("a report\n")
	for name, data := range keys(t) {
		t.Run(name, func(t *testing.T) {
			key, err := ReadKey(data)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := Sign(key, space, message)
			if err != nil {
				t.Fatal(err)
			}
			by, err := Verify(space, message, sig)
			if err != nil || !Same(by, key.PublicKey()) {
				t.Errorf("verify: key %v, error %v; want the key that signed", by, err)
			}
			if _, err := Verify("file", message, sig); !errors.Is(err, ErrBad) {
				t.Errorf("in another namespace: %v; want ErrBad", err)
			}
			if _, err := Verify(space, append(message, ' '), sig); !errors.Is(err, ErrBad) {
				t.Errorf("of another message: %v; want ErrBad", err)
			}
			checkWithOpenSSH(t, key.PublicKey(), message, sig)
		})
	}
}

// checkWithOpenSSH verifies a signature with ssh-keygen.
func checkWithOpenSSH(t *testing.T, key ssh.PublicKey, message, sig []byte) {
	t.Helper()
	keygen := needKeygen(t)
	dir := t.TempDir()
	signers, file := filepath.Join(dir, "signers"), filepath.Join(dir, "sig")
	line := append([]byte("operator@example namespaces=\"muster-*\" "), ssh.MarshalAuthorizedKey(key)...)
	for path, data := range map[string][]byte{signers: line, file: sig} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(keygen, "-Y", "verify", "-f", signers, "-I", "operator@example", "-n", space, "-s", file)
	cmd.Stdin = bytes.NewReader(message)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen -Y verify: %v\n%s", err, out)
	}
	all, err := ReadSigners(line)
	if err != nil {
		t.Fatal(err)
	}
	if who, ok := all.Who(key, space, time.Now()); !ok || who != "operator@example" {
		t.Errorf("the same file names %q, %v; want operator@example", who, ok)
	}
}

func needKeygen(t *testing.T) string {
	t.Helper()
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		if os.Getenv("MUSTER_REQUIRE_ALL") != "" {
			t.Fatal("ssh-keygen is missing")
		}
		t.Skip("SKIPPED, NOT PASSED: no ssh-keygen here to check signatures with")
	}
	return keygen
}

func TestASignatureBySSHKeygenIsGood(t *testing.T) {
	keygen := needKeygen(t)
	dir := t.TempDir()
	keyFile, file := filepath.Join(dir, "key"), filepath.Join(dir, "report.html")
	message := []byte("<!doctype html>\n")
	if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", keyFile).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(file, message, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(keygen, "-Y", "sign", "-f", keyFile, "-n", space, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sig, err := os.ReadFile(file + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(keyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	want, err := ReadPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if by, err := Verify(space, message, sig); err != nil || !Same(by, want) {
		t.Errorf("verify: %v, %v; want the key that ssh-keygen made", by, err)
	}
}

// No byte of a message or of its signature can change unnoticed.
func TestEveryChangedByteIsDetected(t *testing.T) {
	key, err := ReadKey(keys(t)["ed25519 in PKCS #8"])
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("<!doctype html>\n<p>a report</p>\n")
	sig, err := Sign(key, space, message)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string][]byte{"message": message, "signature": sig} {
		for i := range target {
			for _, by := range []byte{0x01, 0x20, 0x80, 0xff} { // neighbours, the other case, no ASCII, all bits
				target[i] ^= by
				if _, err := Verify(space, message, sig); err == nil {
					t.Errorf("byte %d of the %s was changed to %#x unnoticed", i, name, target[i])
				}
				target[i] ^= by
			}
		}
	}
	if _, err := Verify(space, message, sig); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("SKIPPED: this Go makes no weak key to refuse: %v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(weak)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(ed, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		data []byte
		want error
	}{
		"an RSA key of 1024 bits":   {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), ErrUnreadable},
		"a key with a passphrase":   {pem.EncodeToMemory(locked), ErrEncrypted},
		"a PKCS #8 key, encrypted":  {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), ErrEncrypted},
		"something that is no key":  {[]byte("hello\n"), ErrUnreadable},
		"nothing":                   {nil, ErrUnreadable},
		"a PEM block without a key": {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no")}), ErrUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadKey(tt.data); !errors.Is(err, tt.want) {
				t.Errorf("got %v; want %v", err, tt.want)
			}
		})
	}
}

func TestAllowedSigners(t *testing.T) {
	key, err := ReadKey(keys(t)["ed25519 in PKCS #8"])
	if err != nil {
		t.Fatal(err)
	}
	public := string(ssh.MarshalAuthorizedKey(key.PublicKey()))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		file string
		who  string // empty for none
		err  error
	}{
		"one line":                       {file: "ops@example " + public, who: "ops@example"},
		"comments and empty lines":       {file: "# ours\n\nops@example " + public, who: "ops@example"},
		"quoted principals":              {file: `"ops@example,sre@example" ` + public, who: "ops@example,sre@example"},
		"for this namespace":             {file: `ops@example namespaces="file,muster-report" ` + public, who: "ops@example"},
		"for another namespace":          {file: `ops@example namespaces="git" ` + public},
		"for all but this namespace":     {file: `ops@example namespaces="*,!muster-*" ` + public},
		"for all but another namespace":  {file: `ops@example namespaces="!git,muster-??port,*x" ` + public, who: "ops@example"},
		"for namespaces without a class": {file: `ops@example namespaces="muster-repor[t]" ` + public},
		"expired":                        {file: `ops@example valid-before="20261031Z" ` + public},
		"not valid yet":                  {file: `ops@example valid-after="20261102000000Z" ` + public},
		"valid now":                      {file: `ops@example valid-after="20261031Z",valid-before="202611020000Z" ` + public, who: "ops@example"},
		"a certificate authority":        {file: "ops@example cert-authority " + public, err: ErrUnreadable},
		"an option that nobody knows":    {file: "ops@example magic " + public, err: ErrUnreadable},
		"a time that is none":            {file: `ops@example valid-before="soon" ` + public, err: ErrUnreadable},
		"a key without a principal":      {file: public, err: ErrUnreadable},
		"an empty file":                  {file: "\n", err: ErrUnreadable},
		"a principal and nothing behind": {file: "ops@example\n", err: ErrUnreadable},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := ReadSigners([]byte(tt.file))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v; want %v", err, tt.err)
			}
			who, ok := all.Who(key.PublicKey(), space, at)
			if who != tt.who || ok != (tt.who != "") {
				t.Errorf("who %q, %v; want %q", who, ok, tt.who)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	key, err := ReadKey(keys(f)["ed25519 in PKCS #8"])
	if err != nil {
		f.Fatal(err)
	}
	sig, err := Sign(key, space, []byte("report"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, sig []byte) {
		if _, err := Verify(space, []byte("another"), sig); err == nil {
			t.Errorf("a signature of other bytes was good")
		}
	})
}

func FuzzReadSigners(f *testing.F) {
	f.Add([]byte("ops@example namespaces=\"muster-report\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if all, err := ReadSigners(data); (err == nil) != (len(all) > 0) {
			t.Errorf("%d signers, error %v", len(all), err)
		}
	})
}
