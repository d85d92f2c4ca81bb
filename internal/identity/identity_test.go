package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", 254)
	tests := []struct {
		name string
		id   Identity
		want string // part of the error; "" means valid
	}{
		{"an AWS control-plane node", Identity{"atlas.k8s.local", ControlPlane, "i-0123456789abcdef0"}, ""},
		{"a worker with a host name", Identity{"atlas.k8s.local", Worker, "worker_1.Rack-2"}, ""},
		{"the zero value", Identity{}, "cluster name is empty"},
		{"an unknown role", Identity{"c", "admin", "n"}, `role "admin"`},
		{"no node", Identity{"c", Worker, ""}, "node name is empty"},
		{"a node that would climb out of a directory", Identity{"c", Worker, ".."}, "starts with"},
		{"a node that is a path", Identity{"c", Worker, "a/b"}, "holds '/'"},
		{"a node that looks like a flag", Identity{"c", Worker, "-rf"}, "starts with"},
		{"a cluster with a port", Identity{"c:443", Worker, "n"}, "holds ':'"},
		{"a cluster with an empty label", Identity{"c..d", Worker, "n"}, "empty label"},
		{"a cluster with a trailing dot", Identity{"c.", Worker, "n"}, "empty label"},
		{"a name over the limit", Identity{long, Worker, "n"}, "254 characters"},
		{"a name that is not ASCII", Identity{"c", Worker, "nöde"}, "holds 'ö'"},
		{"a name with a line break", Identity{"c", Worker, "n\n"}, "holds '\\n'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.id.Validate()
			if tt.want == "" && err != nil {
				t.Fatalf("got %v, want valid", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestParseAcceptsOneSpellingOnly(t *testing.T) {
	tests := []struct {
		name, uri string
		ok        bool
	}{
		{"the plain form", "muster://atlas.k8s.local/worker/n1", true},
		{"another scheme", "spiffe://atlas/worker/n1", false},
		{"an upper-case scheme is the same scheme", "MUSTER://atlas/worker/n1", true},
		{"a user", "muster://root@atlas/worker/n1", false},
		{"a port", "muster://atlas:1/worker/n1", false},
		{"a query", "muster://atlas/worker/n1?role=control-plane", false},
		{"an empty query", "muster://atlas/worker/n1?", false},
		{"a fragment", "muster://atlas/worker/n1#x", false},
		{"an escaped letter", "muster://atlas/worker/%6e1", false},
		{"an escaped slash", "muster://atlas/worker%2Fn1", false},
		{"a further segment", "muster://atlas/worker/n1/x", false},
		{"a trailing slash", "muster://atlas/worker/n1/", false},
		{"a missing segment", "muster://atlas/worker", false},
		{"no host", "muster:///worker/n1", false},
		{"an opaque form", "muster:atlas/worker/n1", false},
		{"an unknown role", "muster://atlas/Worker/n1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			id, err := Parse(u)
			if (err == nil) != tt.ok {
				t.Fatalf("Parse(%q) = %+v, %v; want ok %t", tt.uri, id, err, tt.ok)
			}
		})
	}
}

func anyIdentity() *rapid.Generator[Identity] {
	label := rapid.StringMatching(`[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,10}[.]?[a-zA-Z0-9_-]{1,10}){0,4}`)
	return rapid.Custom(func(t *rapid.T) Identity {
		return Identity{
			Cluster: label.Draw(t, "cluster"),
			Role:    rapid.SampledFrom([]Role{ControlPlane, Worker}).Draw(t, "role"),
			Node:    label.Draw(t, "node"),
		}
	})
}

func TestEveryValidIdentityReadsBackAsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := anyIdentity().Draw(t, "identity")
		if err := id.Validate(); err != nil {
			t.Fatalf("%+v: %v", id, err)
		}
		u, err := url.Parse(id.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(u)
		if err != nil || got != id {
			t.Fatalf("got %+v, %v; want %+v", got, err, id)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("muster://atlas.k8s.local/worker/n1")
	f.Add("muster://a/control-plane/%6e?#")
	f.Add("muster:a")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		id, err := Parse(u)
		if err != nil {
			return
		}
		if err := id.Validate(); err != nil {
			t.Errorf("Parse(%q) = %+v, which is not valid: %v", s, id, err)
		}
		if id.String() != u.String() {
			t.Errorf("Parse(%q) = %s: two spellings of one identity", s, id)
		}
	})
}

// authority is a certificate authority for these tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

var testTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func certify(t *testing.T, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	template.NotBefore, template.NotAfter = testTime.Add(-time.Hour), testTime.Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	cert, key := certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return authority{cert, key, pool}
}

func uris(t *testing.T, list ...string) []*url.URL {
	t.Helper()
	var us []*url.URL
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		us = append(us, u)
	}
	return us
}

func TestVerify(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	const worker = "muster://atlas/worker/n1"
	leaf := func(a authority, usage []x509.ExtKeyUsage, list ...string) *x509.Certificate {
		c, _ := certify(t, &x509.Certificate{URIs: uris(t, list...), ExtKeyUsage: usage}, a.cert, a.key)
		return c
	}
	intermediate, interKey := certify(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "intermediate"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, ours.cert, ours.key)
	indirect, _ := certify(t, &x509.Certificate{URIs: uris(t, worker), ExtKeyUsage: client}, intermediate, interKey)

	verifier := Verifier{Roots: ours.pool, Cluster: "atlas"}
	tests := []struct {
		name string
		v    Verifier
		cert *x509.Certificate
		at   time.Time
		want string // part of the error; "" means verified
	}{
		{"a worker of the cluster", verifier, leaf(ours, client, worker), testTime, ""},
		{"other URIs beside the identity", verifier, leaf(ours, client, "https://example.com/", worker), testTime, ""},
		{"the zero verifier accepts none", Verifier{}, leaf(ours, client, worker), testTime, "no certificate authority"},
		{"another authority", verifier, leaf(theirs, client, worker), testTime, "unknown authority"},
		{"the claim is named when refused", verifier, leaf(theirs, client, worker), testTime, worker},
		{"an intermediate is no issuer", verifier, indirect, testTime, "unknown authority"},
		{"the authority itself is no node", verifier, ours.cert, testTime, "0 muster:// identities"},
		{"another cluster of the same authority", verifier, leaf(ours, client, "muster://beta/worker/n1"), testTime, "another cluster"},
		{"two identities", verifier, leaf(ours, client, worker, "muster://atlas/control-plane/n1"), testTime, "2 muster:// identities"},
		{"no identity", verifier, leaf(ours, client), testTime, "0 muster:// identities"},
		{"a server-only certificate", verifier, leaf(ours, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, worker), testTime, "incompatible key usage"},
		{"after its end", verifier, leaf(ours, client, worker), testTime.Add(2 * time.Hour), "expired"},
		{"before its start", verifier, leaf(ours, client, worker), testTime.Add(-2 * time.Hour), "not yet valid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := tt.v.Verify(tt.cert, tt.at)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("got %v, %v; want an error with %q", id, err, tt.want)
				}
				return
			}
			if want := (Identity{"atlas", Worker, "n1"}); err != nil || id != want {
				t.Fatalf("got %v, %v; want %v", id, err, want)
			}
		})
	}
}
