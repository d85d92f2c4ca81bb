package record_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/internal/record"
	"github.com/muster-dev/muster/internal/record/recordtest"
)

// reasons is the closed set that Verify answers with.
var reasons = []error{
	record.ErrIdentity, record.ErrSignature, record.ErrName,
	record.ErrNetwork, record.ErrFuture, record.ErrExpired,
}

// tampered decodes s after change has been at its parts.
func tampered(t *testing.T, s record.Signed, change func(*looseSigned)) record.Signed {
	t.Helper()
	var parts looseSigned
	if _, err := asn1.Unmarshal(s.Encode(), &parts); err != nil {
		t.Fatal(err)
	}
	change(&parts)
	out, err := record.Decode(der(parts))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerify(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	node := ca.ControlPlane(t, cluster, "cp-a")
	sub := ca.Intermediate(t)
	verifier := ca.Verifier(cluster, name, "api.atlas.k8s.local")
	verifier.Networks = []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16"), netip.MustParsePrefix("fd00::/8")}

	// say signs a statement that change has been at.
	say := func(n recordtest.Node, change func(*record.Record)) record.Signed {
		r := statement("cp-a", now)
		change(&r)
		return n.Sign(t, r)
	}
	asIs := func(*record.Record) {}
	issue := func(id identity.Identity, changes ...func(*x509.Certificate)) recordtest.Node {
		return ca.Issue(t, id, changes...)
	}
	cpA := identity.Identity{Cluster: cluster, Role: identity.ControlPlane, Node: "cp-a"}

	tests := []struct {
		name string
		said record.Signed
		want error // nil: believed
	}{
		{"a control-plane node about its cluster's name", say(node, asIs), nil},
		{"a withdrawal", say(node, func(r *record.Record) { r.Addrs = nil }), nil},
		{"both families inside the networks", say(node, func(r *record.Record) { r.Addrs = addrs("172.20.0.4:443", "[fd00::4]:443") }), nil},
		{"a clock as far ahead as is allowed", say(node, func(r *record.Record) { r.Clock = record.ClockAt(now.Add(record.MaxSkew)) }), nil},

		{"a worker's certificate", say(issue(identity.Identity{Cluster: cluster, Role: identity.Worker, Node: "cp-a"}), asIs), record.ErrIdentity},
		{"another cluster's certificate", say(issue(identity.Identity{Cluster: "other.k8s.local", Role: identity.ControlPlane, Node: "cp-a"}), asIs), record.ErrIdentity},
		{"another authority's certificate", say(recordtest.NewCA(t).ControlPlane(t, cluster, "cp-a"), asIs), record.ErrIdentity},
		{"a certificate that has expired", say(issue(cpA, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), asIs), record.ErrIdentity},
		{"a certificate that is not valid yet", say(issue(cpA, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), asIs), record.ErrIdentity},
		{"a certificate for servers only", say(issue(cpA, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), asIs), record.ErrIdentity},
		{"a certificate without an identity", say(issue(cpA, func(c *x509.Certificate) { c.URIs = nil }), asIs), record.ErrIdentity},
		{"a certificate with two identities", say(issue(cpA, func(c *x509.Certificate) {
			c.URIs = []*url.URL{cpA.URI(), identity.Identity{Cluster: cluster, Role: identity.Worker, Node: "w"}.URI()}
		}), asIs), record.ErrIdentity},
		{"no certificate at all", tampered(t, say(node, asIs), func(p *looseSigned) { p.Cert = nil }), record.ErrIdentity},
		{"the authority's own certificate", tampered(t, say(node, asIs), func(p *looseSigned) { p.Cert = ca.DER() }), record.ErrIdentity},
		{"an intermediate's certificate without the intermediate", say(sub.ControlPlane(t, cluster, "cp-a"), asIs), record.ErrIdentity},
		{"an intermediate slipped in behind the certificate", tampered(t, say(sub.ControlPlane(t, cluster, "cp-a"), asIs), func(p *looseSigned) {
			p.Cert = append(p.Cert, sub.DER()...)
		}), record.ErrIdentity},
		{"another node's name as the publisher", say(node, func(r *record.Record) { r.Publisher = "cp-b" }), record.ErrIdentity},

		{"a name of another cluster", say(node, func(r *record.Record) { r.Name = "api.internal.other.k8s.local" }), record.ErrName},
		{"a name below the cluster that nobody listed", say(node, func(r *record.Record) { r.Name = "www.atlas.k8s.local" }), record.ErrName},
		{"a listed name in other letters", say(node, func(r *record.Record) { r.Name = "API.internal.atlas.k8s.local" }), record.ErrName},
		{"a listed name with a trailing dot", say(node, func(r *record.Record) { r.Name = name + "." }), record.ErrName},

		{"an IPv4 address outside the networks", say(node, func(r *record.Record) { r.Addrs = addrs("172.20.0.4:443", "8.8.8.8:443") }), record.ErrNetwork},
		{"an IPv6 address outside the networks", say(node, func(r *record.Record) { r.Addrs = addrs("[2001:db8::1]:443") }), record.ErrNetwork},
		{"loopback where the networks do not hold it", say(node, func(r *record.Record) { r.Addrs = addrs("127.0.0.1:443") }), record.ErrNetwork},

		{"a clock a little too far ahead", say(node, func(r *record.Record) { r.Clock = record.ClockAt(now.Add(record.MaxSkew + 2*time.Millisecond)) }), record.ErrFuture},
		{"a clock years ahead", say(node, func(r *record.Record) {
			r.Clock = record.ClockAt(now.AddDate(50, 0, 0))
			r.Expires = now.AddDate(50, 0, 0)
		}), record.ErrFuture},
		{"a record at the moment of its expiry", say(node, func(r *record.Record) { r.Expires = now }), record.ErrExpired},
		{"a record replayed after its expiry", say(node, func(r *record.Record) {
			r.Clock = record.ClockAt(now.Add(-time.Hour))
			r.Expires = now.Add(-time.Hour + time.Minute)
		}), record.ErrExpired},

		{"a flipped byte in the signature", tampered(t, say(node, asIs), func(p *looseSigned) { p.Signature[17] ^= 1 }), record.ErrSignature},
		{"no signature", tampered(t, say(node, asIs), func(p *looseSigned) { p.Signature = nil }), record.ErrSignature},
		{"an address changed after signing", tampered(t, say(node, asIs), func(p *looseSigned) {
			p.Payload = payloadOf(t, p.Payload, func(r *looseRecord) { r.Addrs[0][3] ^= 1 })
		}), record.ErrSignature},
		{"a life prolonged after signing", tampered(t, say(node, asIs), func(p *looseSigned) {
			p.Payload = payloadOf(t, p.Payload, func(r *looseRecord) { r.Expires++ })
		}), record.ErrSignature},
		{"another key than the certificate's", say(recordtest.Node{Cert: node.Cert, Key: ca.ControlPlane(t, cluster, "cp-a").Key}, asIs), record.ErrSignature},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := verifier.Verify(tt.said, now)
			for _, reason := range reasons {
				if got, want := errors.Is(err, reason), reason == tt.want; got != want {
					t.Errorf("error %v: is %q: got %v, want %v", err, reason, got, want)
				}
			}
			if (err == nil) != (tt.want == nil) {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
		})
	}
}

// payloadOf decodes a payload, lets change at it and encodes it again.
func payloadOf(t *testing.T, payload []byte, change func(*looseRecord)) []byte {
	t.Helper()
	var r looseRecord
	if _, err := asn1.Unmarshal(payload, &r); err != nil {
		t.Fatal(err)
	}
	change(&r)
	return der(r)
}

// Any flipped bit, wherever it is, must cost the record its credit: it does not
// decode, or it is not believed.
func TestARecordWithAFlippedBitIsRejected(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	verifier := ca.Verifier(cluster, name)
	wire := ca.ControlPlane(t, cluster, "cp-a").Sign(t, statement("cp-a", now)).Encode()
	for i := range wire {
		flipped := append([]byte(nil), wire...)
		flipped[i] ^= 1 << (i % 8)
		s, err := record.Decode(flipped)
		if err != nil {
			continue
		}
		if err := verifier.Verify(s, now); err == nil {
			t.Errorf("byte %d flipped and still believed", i)
		}
	}
}

func TestEmptyNetworksAllowAnyAddress(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	r := statement("cp-a", now)
	r.Addrs = addrs("8.8.8.8:443", "[2001:db8::1]:443")
	if err := ca.Verifier(cluster, name).Verify(ca.ControlPlane(t, cluster, "cp-a").Sign(t, r), now); err != nil {
		t.Error(err)
	}
}

func TestTheZeroVerifierAcceptsNoRecord(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	s := ca.ControlPlane(t, cluster, "cp-a").Sign(t, statement("cp-a", now))
	if err := (record.Verifier{}).Verify(s, now); !errors.Is(err, record.ErrName) {
		t.Errorf("zero value: got %v, want %v", err, record.ErrName)
	}
	if err := (record.Verifier{Names: []string{name}}).Verify(s, now); !errors.Is(err, record.ErrIdentity) {
		t.Errorf("names alone: got %v, want %v", err, record.ErrIdentity)
	}
}

// Keys other than Ed25519 exist on metal, where an operator's own authority
// issues them.
func TestECDSAKeysSignToo(t *testing.T) {
	now := time.Now()
	ca := recordtest.NewCA(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	node := ca.IssueFor(t, key, identity.Identity{Cluster: cluster, Role: identity.ControlPlane, Node: "cp-a"})
	if err := ca.Verifier(cluster, name).Verify(node.Sign(t, statement("cp-a", now)), now); err != nil {
		t.Error(err)
	}
}
