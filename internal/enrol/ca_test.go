package enrol

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/identity"
)

func testCA(t testing.TB, now time.Time, lifetime time.Duration) *CA {
	t.Helper()
	ca, err := NewCA(testCluster, now, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestIssuedCertificates(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	ca := testCA(t, now, 0)
	names := []string{ServerName(testCluster)}
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	tests := []struct {
		name   string
		id     identity.Identity
		o      IssueOptions
		usages []x509.ExtKeyUsage
		end    time.Time
	}{
		{"a worker authenticates as a client only", worker("n1"), IssueOptions{Now: now}, []x509.ExtKeyUsage{client}, now.Add(DefaultLifetime)},
		{"a control-plane node serves too", controlPlane("cp1"), IssueOptions{Now: now, DNSNames: names, IPs: []netip.Addr{netip.MustParseAddr("fd00::1")}}, []x509.ExtKeyUsage{client, server}, now.Add(DefaultLifetime)},
		{"an address mapped into IPv6 is the IPv4 address", controlPlane("cp1"), IssueOptions{Now: now, IPs: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}}, []x509.ExtKeyUsage{client, server}, now.Add(DefaultLifetime)},
		{"a lifetime as asked", worker("n1"), IssueOptions{Now: now, Lifetime: time.Hour}, []x509.ExtKeyUsage{client}, now.Add(time.Hour)},
		{"never longer than the authority's", worker("n1"), IssueOptions{Now: now, Lifetime: 100 * DefaultLifetime}, []x509.ExtKeyUsage{client}, ca.Certificate.NotAfter},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := mustKey(t)
			der, err := ca.Issue(key.Public(), tt.id, tt.o)
			if err != nil {
				t.Fatal(err)
			}
			cert := mustParse(t, der)
			if got, err := ca.Verifier().Verify(cert, now.Add(-4*time.Minute)); err != nil || got != tt.id {
				t.Errorf("four minutes slow: got %v, %v; want %v", got, err, tt.id)
			}
			if !samePublicKey(cert.PublicKey, key.Public()) {
				t.Error("for another key")
			}
			if diff := cmp.Diff(tt.usages, cert.ExtKeyUsage); diff != "" {
				t.Errorf("usages (-want +got):\n%s", diff)
			}
			if !cert.NotAfter.Equal(tt.end) {
				t.Errorf("ends %s, want %s", cert.NotAfter, tt.end)
			}
			if diff := cmp.Diff(tt.o.DNSNames, cert.DNSNames); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if got, want := len(cert.IPAddresses), len(tt.o.IPs); got != want {
				t.Errorf("%d addresses, want %d", got, want)
			}
			for i, ip := range cert.IPAddresses {
				if got, _ := netip.AddrFromSlice(ip); got != tt.o.IPs[i].Unmap() {
					t.Errorf("address %s, want %s", got, tt.o.IPs[i])
				}
			}
			if cert.IsCA || cert.Subject.String() != "" {
				t.Errorf("authority %t, subject %q; want neither", cert.IsCA, cert.Subject)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	now := time.Now()
	ca := testCA(t, now, 0)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := mustKey(t).Public()
	tests := []struct {
		name string
		pub  crypto.PublicKey
		id   identity.Identity
		o    IssueOptions
		want string
	}{
		{"another cluster", good, identity.Identity{Cluster: "beta", Role: identity.Worker, Node: "n"}, IssueOptions{}, `authority of cluster "atlas.k8s.local"`},
		{"no identity", good, identity.Identity{}, IssueOptions{}, "cluster name is empty"},
		{"names for a worker", good, worker("n"), IssueOptions{DNSNames: []string{"a"}}, "no names or addresses"},
		{"addresses for a worker", good, worker("n"), IssueOptions{IPs: []netip.Addr{netip.IPv6Loopback()}}, "no names or addresses"},
		{"a name with a wildcard", good, controlPlane("n"), IssueOptions{DNSNames: []string{"*.a"}}, "not a DNS name"},
		{"the zero address", good, controlPlane("n"), IssueOptions{IPs: []netip.Addr{{}}}, "not one that a node"},
		{"an unspecified address", good, controlPlane("n"), IssueOptions{IPs: []netip.Addr{netip.IPv4Unspecified()}}, "not one that a node"},
		{"an address with a zone", good, controlPlane("n"), IssueOptions{IPs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}}, "not one that a node"},
		{"a negative lifetime", good, worker("n"), IssueOptions{Lifetime: -1}, "negative"},
		{"an RSA key", rsaKey.Public(), worker("n"), IssueOptions{}, "Ed25519 or ECDSA P-256"},
		{"a P-384 key", p384.Public(), worker("n"), IssueOptions{}, "P-384"},
		{"no key", nil, worker("n"), IssueOptions{}, "Ed25519 or ECDSA P-256"},
		{"after the authority's end", good, worker("n"), IssueOptions{Now: now.Add(2 * DefaultCALifetime)}, "authority itself expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ca.Issue(tt.pub, tt.id, tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// A record carries its publisher's certificate in one gossip packet of at most
// about 1300 bytes.
func TestCertificatesFitIntoAGossipPacket(t *testing.T) {
	ca := testCA(t, time.Now(), 0)
	tests := []struct {
		name string
		id   identity.Identity
		o    IssueOptions
		most int
	}{
		{"a control-plane node on IPv4", controlPlane("i-0123456789abcdef0"), IssueOptions{DNSNames: []string{ServerName(testCluster)}, IPs: []netip.Addr{netip.MustParseAddr("172.20.32.4")}}, 450},
		{"a control-plane node on IPv6", controlPlane("i-0123456789abcdef0"), IssueOptions{DNSNames: []string{ServerName(testCluster)}, IPs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}, 450},
		{"a worker", worker("i-0123456789abcdef0"), IssueOptions{}, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			most := 0
			for range 20 { // an ECDSA signature's size varies
				der, err := ca.Issue(mustKey(t).Public(), tt.id, tt.o)
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, len(der))
			}
			t.Logf("%d bytes", most)
			if most >= tt.most {
				t.Errorf("%d bytes, want under %d", most, tt.most)
			}
		})
	}
}

func TestEveryNodeNameThatIsDNSSafeCanBeIssued(t *testing.T) {
	ca := testCA(t, time.Now(), 0)
	pub := mustKey(t).Public()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?){0,3}`).Draw(t, "node")
		if !dnsSafe(name) {
			t.Fatalf("%q is not taken for a DNS name", name)
		}
		if _, err := ca.Issue(pub, worker(name), IssueOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDNSSafe(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		name string
		in   string
		want bool
	}{
		{"a label", "n1", true},
		{"several labels", "ip-10-0-0-1.eu-west-1.compute.internal", true},
		{"a label of 63", long, true},
		{"nothing", "", false},
		{"a label of 64", long + "a", false},
		{"upper case", "N1", false},
		{"an underscore", "n_1", false},
		{"a leading hyphen", "-n", false},
		{"a trailing hyphen", "n-", false},
		{"a trailing hyphen inside", "n-.a", false},
		{"an empty label", "a..b", false},
		{"a leading dot", ".a", false},
		{"a trailing dot", "a.", false},
		{"254 characters", strings.Repeat("a.", 126) + "ab", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := dnsSafe(tt.in); got != tt.want {
				t.Errorf("dnsSafe(%q) = %t, want %t", tt.in, got, tt.want)
			}
		})
	}
}

func TestNewCARefuses(t *testing.T) {
	for _, cluster := range []string{"", "Atlas", "a b", "a..b", "a_b", strings.Repeat("a.", 125) + "a"} {
		if _, err := NewCA(cluster, time.Now(), 0); err == nil {
			t.Errorf("cluster %q was accepted", cluster)
		}
	}
	if _, err := NewCA(testCluster, time.Now(), -time.Second); err == nil {
		t.Error("a negative lifetime was accepted")
	}
}

func TestSavedAuthorityLoadsAgain(t *testing.T) {
	ca := testCA(t, time.Now(), 0)
	certFile, keyFile := caPaths(t.TempDir())
	if err := ca.Save(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("key has mode %#o, want 0600", got)
	}
	loaded, err := LoadCA(certFile, keyFile, testCluster)
	if err != nil {
		t.Fatal(err)
	}
	der, err := loaded.Issue(mustKey(t).Public(), worker("n1"), IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Verifier().Verify(mustParse(t, der), time.Now()); err != nil {
		t.Errorf("the loaded authority's certificate: %v", err)
	}
	before, _ := os.ReadFile(keyFile)
	if err := ca.Save(filepath.Join(t.TempDir(), "ca.crt"), keyFile); err == nil || !strings.Contains(err.Error(), keyFile+" exists") {
		t.Errorf("second save: got %v", err)
	}
	if after, _ := os.ReadFile(keyFile); !slices.Equal(before, after) {
		t.Error("second save changed the key")
	}
}

func TestLoadCARefuses(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := testCA(t, time.Now(), 0), testCA(t, time.Now(), 0)
	certFile, keyFile := caPaths(dir)
	if err := ours.Save(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	otherCert, otherKey := filepath.Join(dir, "other.crt"), filepath.Join(dir, "other.key")
	if err := theirs.Save(otherCert, otherKey); err != nil {
		t.Fatal(err)
	}
	leaf, err := ours.Issue(mustKey(t).Public(), worker("n1"), IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leafFile := writeTestFile(t, filepath.Join(dir, "leaf.crt"), string(encodeCertificate(leaf)), 0o644)
	two := writeTestFile(t, filepath.Join(dir, "two.crt"), string(ours.PEM())+string(theirs.PEM()), 0o644)
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	openKey := writeTestFile(t, filepath.Join(dir, "open.key"), string(key), 0o640)
	garbage := writeTestFile(t, filepath.Join(dir, "garbage"), "-----BEGIN SECRET-----", 0o600)

	tests := []struct {
		name, cert, key, cluster, want string
	}{
		{"a missing certificate", filepath.Join(dir, "none"), keyFile, testCluster, "none"},
		{"a missing key", certFile, filepath.Join(dir, "none"), testCluster, "none"},
		{"another cluster's authority", certFile, keyFile, "beta", `not the authority of cluster "beta"`},
		{"a key of another authority", certFile, otherKey, testCluster, "is not the key of"},
		{"a node's certificate", leafFile, keyFile, testCluster, "not a certificate authority"},
		{"a bundle", two, keyFile, testCluster, "more than one PEM block"},
		{"a key that others may read", certFile, openKey, testCluster, "chmod 600 " + openKey},
		{"a key that is none", certFile, garbage, testCluster, "no PEM block"},
		{"a certificate that is none", garbage, keyFile, testCluster, "no PEM block"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadCA(tt.cert, tt.key, tt.cluster)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("error quotes the file: %v", err)
			}
		})
	}
}

func TestInitControlPlane(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "cluster")
	nodes := []ControlPlaneNode{{Name: "cp1", Addr: netip.MustParseAddr("10.0.0.1")}, {Name: "cp2"}}
	ca, err := InitControlPlane(dir, testCluster, nodes, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		creds, err := LoadCredentials(filepath.Join(dir, "nodes", n.Name), controlPlane(n.Name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if PinOf(creds.CA()) != PinOf(ca.Certificate) {
			t.Errorf("%s has another authority", n.Name)
		}
		if err := verifyServer(creds.Current().Leaf, ca.Certificate, ServerName(testCluster)); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if n.Addr.IsValid() {
			if err := verifyServer(creds.Current().Leaf, ca.Certificate, n.Addr.String()); err != nil {
				t.Errorf("%s: %v", n.Name, err)
			}
		}
	}
	if _, err := LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), testCluster); err != nil {
		t.Error(err)
	}
	if _, err := InitControlPlane(dir, testCluster, nodes, time.Now()); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("second init: got %v", err)
	}
	again, err := LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), testCluster)
	if err != nil || PinOf(again.Certificate) != PinOf(ca.Certificate) {
		t.Errorf("second init changed the authority: %v", err)
	}
}

func TestInitControlPlaneWritesNothingWhenItRefuses(t *testing.T) {
	tests := []struct {
		name  string
		nodes []ControlPlaneNode
		want  string
	}{
		{"no node", nil, "no control-plane node"},
		{"the same node twice", []ControlPlaneNode{{Name: "a"}, {Name: "a"}}, "given twice"},
		{"a name that leaves the directory", []ControlPlaneNode{{Name: "../a"}}, "starts with"},
		{"an address nobody can reach", []ControlPlaneNode{{Name: "a", Addr: netip.IPv6Unspecified()}}, "not one that a node"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := InitControlPlane(dir, testCluster, tt.nodes, time.Now())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestOfInitsAtOnceOneWins(t *testing.T) {
	dir := t.TempDir()
	results := make(chan error, 4)
	for range 4 {
		go func() {
			_, err := InitControlPlane(dir, testCluster, []ControlPlaneNode{{Name: "cp1"}}, time.Now())
			results <- err
		}()
	}
	won := 0
	for range 4 {
		if err := <-results; err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d inits won, want 1", won)
	}
	if _, err := LoadCredentials(filepath.Join(dir, "nodes", "cp1"), controlPlane("cp1"), nil); err != nil {
		t.Error(err)
	}
	if _, err := LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"), testCluster); err != nil {
		t.Error(err)
	}
}
