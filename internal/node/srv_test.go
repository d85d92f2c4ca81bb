package node

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
	"github.com/muster-dev/muster/internal/identity"
	"github.com/muster-dev/muster/test/testca"
)

// Whatever DNS answers, and however often: nothing that was known goes, and of
// what it lists only those come that have proven themselves.
func TestDNSOnlyAddsServersThatProveThemselves(t *testing.T) {
	server := rapid.Map(rapid.IntRange(1, 6), func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)
	})
	rapid.Check(t, func(t *rapid.T) {
		s := Service{Name: "api.internal", SRV: "_https._tcp.example.com"}
		v := newView(Config{Cluster: "home.example", Node: "n", Role: identity.Worker, Services: []Service{s}}, slog.New(slog.DiscardHandler))
		boot := rapid.SliceOfN(server, 1, 3).Draw(t, "boot")
		v.learn(s.Name, endpoint.Boot, boot)
		genuine := rapid.SliceOf(server).Draw(t, "genuine servers")
		var answer []netip.AddrPort
		var fault error
		f := &srvFinder{
			service: s, view: v, log: slog.New(slog.DiscardHandler),
			lookup: func(context.Context, string) ([]netip.AddrPort, error) { return answer, fault },
			prove: func(_ context.Context, servers []netip.AddrPort, found func(netip.AddrPort)) error {
				for _, a := range servers {
					if slices.Contains(genuine, a) {
						found(a)
					}
				}
				return nil
			},
		}
		want := make(map[netip.AddrPort]bool)
		for _, a := range boot {
			want[a] = true
		}
		for range rapid.IntRange(1, 5).Draw(t, "times asked") {
			answer = rapid.SliceOf(server).Draw(t, "answer")
			fault = nil
			if rapid.Bool().Draw(t, "with a fault") {
				fault = errors.New("SERVFAIL")
			}
			if err := f.find(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, a := range answer {
				if slices.Contains(genuine, a) {
					want[a] = true
				}
			}
			known := v.known(s.Name)
			for _, e := range known {
				if !want[e.Addr] {
					t.Fatalf("%s is known and never proved itself", e)
				}
			}
			if len(known) != len(want) {
				t.Fatalf("known %v; want %v", known, want)
			}
		}
	})
}

func TestAServerWithACertificateOfAnotherClusterIsNotLearned(t *testing.T) {
	ours, theirs := t.TempDir(), t.TempDir()
	testca.Write(t, ours, "kubernetes")
	testca.Write(t, theirs, "kubernetes")
	serve := func(dir string) netip.AddrPort {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		done := make(chan error)
		go func() { done <- server.ServeTLS(ln, filepath.Join(dir, testca.Cert), filepath.Join(dir, testca.Key)) }()
		t.Cleanup(func() { server.Close(); <-done })
		return ln.Addr().(*net.TCPAddr).AddrPort()
	}
	genuine, impostor := serve(ours), serve(theirs)
	pem, err := os.ReadFile(filepath.Join(ours, testca.CA))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	var found []netip.AddrPort
	prove := proveBy(health.Config{ServerName: "kubernetes", Roots: roots})
	ctx, stop := context.WithTimeout(t.Context(), srvTimeout)
	defer stop()
	if err := prove(ctx, []netip.AddrPort{impostor, genuine}, func(a netip.AddrPort) { found = union(found, []netip.AddrPort{a}) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, []netip.AddrPort{genuine}) {
		t.Errorf("found %v; want %v alone, not %v", found, genuine, impostor)
	}
}
