package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/audit"
	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

const name = "atlas.k8s.local"

// serve starts a TLS server with a self-signed certificate for names. It requests a client
// certificate, as some API servers do.
func serve(t *testing.T, names ...string) (address string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, IPAddresses: []net.IP{net.IPv4(10, 9, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that end early
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// network maps addresses to servers of the test and refuses all others.
func network(to map[string]string) Config {
	return Config{
		Timeout: 2 * time.Second,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if real, ok := to[address]; ok {
				return (&net.Dialer{}).DialContext(ctx, network, real)
			}
			return nil, errors.New("connection refused")
		},
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			switch host {
			case "lb.example.com":
				return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7")}, nil
			case "gone.example.com":
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
		},
	}
}

func input(servers ...string) audit.Input {
	return audit.Input{
		Version: "1.36.2",
		Spec:    &cluster.Cluster{Name: name, Cloud: cluster.AWS, DNSType: cluster.DNSNone},
		Cloud: &cloud.Observation{Groups: []cloud.Group{{
			Name:     "nodes",
			Template: cloud.Template{Boot: &cloud.BootConfig{Servers: servers, TLSServerName: "kops-controller.internal." + name}},
		}}},
	}
}

func TestRun(t *testing.T) {
	ours := serve(t, "kops-controller.internal."+name)
	stranger := serve(t, "printer.example.com")
	withBalancer := func(lb cloud.LoadBalancer) audit.Input {
		in := input()
		in.Cloud.LoadBalancers = []cloud.LoadBalancer{lb}
		return in
	}
	private := input("https://gone.example.com:3988/")
	private.Spec.DNSType = cluster.DNSPrivate
	private.Spec.Name = "atlas.example.com"
	tests := []struct {
		name string
		in   audit.Input
		to   map[string]string
		want audit.Probes
		gaps []string // their subjects
	}{
		{"the certificate of a boot server is read, without trust", input("https://10.9.0.250:3988/"), map[string]string{"10.9.0.250:3988": ours},
			audit.Probes{TLSNames: map[string][]string{"10.9.0.250:3988": {"kops-controller.internal." + name, "10.9.0.1"}}}, nil},
		{"what does not answer is not seen", input("https://10.9.0.250:3988/"), nil, audit.Probes{}, []string{"10.9.0.250:3988"}},
		{"a stranger at a private address is no evidence", input("https://10.9.0.250:3988/"), map[string]string{"10.9.0.250:3988": stranger}, audit.Probes{}, []string{"10.9.0.250:3988"}},
		{"a stranger at a public address is", input("https://192.0.2.7:3988/"), map[string]string{"192.0.2.7:3988": stranger},
			audit.Probes{TLSNames: map[string][]string{"192.0.2.7:3988": {"printer.example.com", "10.9.0.1"}}}, nil},
		{"a load balancer is asked at both ports, at its addresses and its name",
			withBalancer(cloud.LoadBalancer{DNSName: "lb.example.com", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.250")}}),
			map[string]string{"lb.example.com:443": ours},
			audit.Probes{TLSNames: map[string][]string{"lb.example.com:443": {"kops-controller.internal." + name, "10.9.0.1"}}},
			[]string{"10.9.0.250:3988", "10.9.0.250:443", "lb.example.com:3988"}},
		{"and at none where it has no listener",
			withBalancer(cloud.LoadBalancer{Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.250")}, Listeners: []cloud.Listener{{Port: 443}}}),
			nil, audit.Probes{}, []string{"10.9.0.250:443"}},
		{"a name that exists nowhere is an answer", input("https://gone.example.com:3988/"), nil,
			audit.Probes{Resolved: map[string][]netip.Addr{"gone.example.com": nil}}, []string{"gone.example.com:3988"}},
		{"a name that a private zone may have is not", private, nil, audit.Probes{}, []string{"gone.example.com", "gone.example.com:3988"}},
		{"a name that nobody answers for is not seen", input("https://slow.example.com:3988/"), nil, audit.Probes{}, []string{"slow.example.com", "slow.example.com:3988"}},
		{"a name that resolves", input("https://lb.example.com:3988/"), nil,
			audit.Probes{Resolved: map[string][]netip.Addr{"lb.example.com": {netip.MustParseAddr("192.0.2.7")}}}, []string{"lb.example.com:3988"}},
		{"no resolver is asked for a name inside a gossip cluster", input("https://kops-controller.internal." + name + ":3988/"), nil, audit.Probes{}, nil},
		{"a server that is no URL is left to the audit", input("::", "https://"), nil, audit.Probes{}, nil},
		{"without a cloud there is nothing to ask", audit.Input{Spec: input().Spec}, nil, audit.Probes{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Run(t.Context(), tt.in, network(tt.to))
			var gaps []string
			for _, g := range got.Gaps {
				gaps = append(gaps, g.Subject)
			}
			got.Gaps = nil
			slices.Sort(gaps)
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.gaps, gaps); diff != "" {
				t.Errorf("gaps (-want +got):\n%s", diff)
			}
		})
	}
}

// A server that accepts a connection and sends nothing, and a resolver that hangs.
func TestQuestionsEndAtTheirDeadline(t *testing.T) {
	c := Config{
		Timeout: 20 * time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { far.Close() })
			return near, nil
		},
		Resolve: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	got := Run(t.Context(), input("https://lb.example.com:3988/"), c)
	if len(got.Gaps) != 2 || got.TLSNames != nil || got.Resolved != nil {
		t.Errorf("Run = %+v; want two questions without an answer", got)
	}
}
