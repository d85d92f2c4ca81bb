package enrol

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func TestParsePin(t *testing.T) {
	digits := strings.Repeat("0a", 32)
	tests := []struct {
		name, text, want string // want is part of the error; "" means valid
	}{
		{"kubeadm's form", "sha256:" + digits, ""},
		{"upper-case digits", "sha256:" + strings.ToUpper(digits), ""},
		{"nothing", "", "does not start"},
		{"no algorithm", digits, "does not start"},
		{"another algorithm", "sha512:" + digits, "does not start"},
		{"too short", "sha256:" + digits[2:], "62 digits"},
		{"too long", "sha256:" + digits + "00", "66 digits"},
		{"no hexadecimal", "sha256:" + strings.Repeat("zz", 32), "invalid byte"},
		{"all zeros", "sha256:" + strings.Repeat("00", 32), "all zeros"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pin, err := ParsePin(tt.text)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, %v; want an error with %q", pin, err, tt.want)
				}
				return
			}
			if err != nil || pin.String() != strings.ToLower(tt.text) {
				t.Fatalf("got %v, %v; want %s", pin, err, tt.text)
			}
		})
	}
}

func TestThePinIsTheHashOfThePublicKeyAlone(t *testing.T) {
	ca, err := NewCA(testCluster, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(ca.Certificate.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	if got, want := PinOf(ca.Certificate).String(), "sha256:"+hex.EncodeToString(sum[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParsePin(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0a", 32))
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, s string) {
		pin, err := ParsePin(s)
		if err != nil {
			return
		}
		var again Pin
		text, err := pin.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(text); err != nil || again != pin {
			t.Errorf("ParsePin(%q) = %v, which reads back as %v, %v", s, pin, again, err)
		}
	})
}
