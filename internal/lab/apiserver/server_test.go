package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/lab/apiserver"
)

func TestProbesAndVersionAnswerAnybody(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.start(t, "one", "10.213.1.1:6443")
	for _, http2 := range []bool{false, true} {
		client := s.clientWith(t, l.nobody, http2)
		for _, path := range []string{"/livez", "/readyz"} {
			if got := s.send(t, client, "GET", path, "", "", nil); got.code != 200 || got.text != "ok" {
				t.Errorf("%s (HTTP/2 %t): got %d %q, want 200 ok", path, http2, got.code, got.text)
			}
		}
	}
	var version struct{ Major, Minor, GitVersion string }
	got := s.get(t, "/version", &version)
	if version.Major != "1" || version.Minor != "36" || version.GitVersion != "v1.36.0+muster.built.in" {
		t.Errorf("version %+v, want 1, 36 and v1.36.0+muster.built.in", version)
	}
	if name := got.header.Get("Server"); !strings.Contains(name, "built in") {
		t.Errorf("the server calls itself %q and does not say that it is built in", name)
	}
	var missing struct {
		Kind, Reason string
		Code         int
	}
	if got := s.get(t, "/api/v1/pods", &missing); got.code != 404 || missing.Kind != "Status" || missing.Reason != "NotFound" {
		t.Errorf("an unknown path answers %d %+v, want a Status with NotFound", got.code, missing)
	}
}

func TestReadinessCanBeTakenAwayAndGivenBack(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cfg := l.config(t, "one", "10.213.1.1:6443")
	if err := os.WriteFile(cfg.UnreadyFile, []byte("the disk is full\nand more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := l.run(t, cfg)
	ready := func() reply { return s.get(t, "/readyz", nil) }

	if got := ready(); got.code != 503 || got.text != "not ready: the disk is full" {
		t.Errorf("got %d %q, want 503 with the reason", got.code, got.text)
	}
	if got := s.get(t, "/livez", nil); got.code != 200 {
		t.Errorf("livez answers %d while unready, want 200", got.code)
	}
	if got := s.endpoints(t); len(got) != 0 {
		t.Errorf("a server that was never ready is listed: %v", got)
	}
	if err := os.Remove(cfg.UnreadyFile); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got.code != 200 {
		t.Errorf("got %d %q, want 200", got.code, got.text)
	}
	eventually(t, "the server is listed", func() bool { return len(s.endpoints(t)) == 1 })

	// From now on unready is a matter of the balancers, as with the real one.
	if err := os.WriteFile(cfg.UnreadyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got.code != 503 || got.text != "not ready: made unready on purpose" {
		t.Errorf("got %d %q, want 503 with a reason", got.code, got.text)
	}
	if got := s.endpoints(t); len(got) != 1 {
		t.Errorf("endpoints %v, want the unready server still listed", got)
	}
	if err := os.Remove(cfg.UnreadyFile); err != nil {
		t.Fatal(err)
	}

	// The state stands in for etcd: without it a server is not ready.
	if err := os.Rename(l.state, l.state+".away"); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got.code != 503 || !strings.Contains(got.text, "no such file") {
		t.Errorf("without its state: got %d %q, want 503 with the reason", got.code, got.text)
	}
	if got := s.get(t, nodesPath, nil); got.code != 500 {
		t.Errorf("without its state nodes answer %d, want 500", got.code)
	}
	if err := os.Rename(l.state+".away", l.state); err != nil {
		t.Fatal(err)
	}
	if got := ready(); got.code != 200 {
		t.Errorf("got %d %q, want 200", got.code, got.text)
	}
}

func TestChangingNeedsACertificateOfTheClientCA(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := l.start(t, "one", "10.213.1.1:6443")
	const body = `{"metadata": {"name": "worker"}}`

	nobody := s.clientWith(t, l.nobody, true)
	for _, request := range [][3]string{
		{"POST", nodesPath, "application/json"}, {"DELETE", nodesPath + "/worker", ""},
		{"PUT", nodesPath + "/worker/status", "application/json"},
		{"PATCH", nodesPath + "/worker/status", "application/strategic-merge-patch+json"},
	} {
		if got := s.send(t, nobody, request[0], request[1], request[2], body, nil); got.code != 401 {
			t.Errorf("%s %s without certificate: %d %s, want 401", request[0], request[1], got.code, got.text)
		}
	}
	if got := s.send(t, nobody, "GET", nodesPath, "", "", nil); got.code != 200 {
		t.Errorf("reading without certificate: %d, want 200", got.code)
	}

	stranger, key := newCertificate(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "system:node:worker"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, nil, nil)
	trust := l.nobody.Clone()
	// A client would not offer a certificate that the server did not ask for.
	trust.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{stranger.Raw}, PrivateKey: key}, nil
	}
	if got, err := s.try(s.clientWith(t, trust, true), "POST", nodesPath, "application/json", body); err == nil {
		t.Errorf("a certificate of another CA: %d %s, want a failing handshake", got.code, got.text)
	}
	old := l.client.Clone()
	old.MaxVersion = tls.VersionTLS11
	if got, err := s.try(s.clientWith(t, old, true), "GET", "/livez", "", ""); err == nil {
		t.Errorf("TLS 1.1: %d, want a failing handshake", got.code)
	}
	if got := s.send(t, s.client, "POST", nodesPath, "application/json", body, nil); got.code != 201 {
		t.Errorf("with certificate: %d %s, want 201", got.code, got.text)
	}
}

func TestAServerThatIsStoppedLeavesBeforeItGoes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	stays := l.start(t, "stays", "10.213.1.1:6443")
	cfg := l.config(t, "goes", "10.213.1.2:6443")
	cfg.ShutdownDelay = 500 * time.Millisecond
	goes := l.run(t, cfg)
	eventually(t, "both are listed", func() bool { return len(stays.endpoints(t)) == 2 })
	watch := goes.watch(t, http.DefaultClient, "")

	begin := time.Now()
	goes.cancel()
	eventually(t, "the server is off the list", func() bool { return len(stays.endpoints(t)) == 1 })
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s; a lease runs out after 3s", took)
	}
	if got := stays.endpoints(t); !cmp.Equal(got, []string{"10.213.1.1"}) {
		t.Errorf("endpoints %v, want the one that stays", got)
	}
	// It serves on, and says that it is about to go.
	got, err := goes.try(goes.client, "GET", "/readyz", "", "")
	if err != nil || got.code != 503 || got.text != "not ready: shutting down" {
		t.Errorf("got %d %q, %v; want 503 shutting down", got.code, got.text, err)
	}
	if got, err := goes.try(goes.client, "GET", nodesPath, "", ""); err != nil || got.code != 200 {
		t.Errorf("during the delay nodes answer %d, %v; want 200", got.code, err)
	}
	goes.stop(t)
	if took := time.Since(begin); took < cfg.ShutdownDelay {
		t.Errorf("the server was gone after %s, before its delay of %s", took, cfg.ShutdownDelay)
	}
	watch.drain(t) // it ended, and did not have to be cut off
	if _, err := goes.try(goes.client, "GET", "/livez", "", ""); err == nil {
		t.Error("the server answers after Run returned")
	}
}

func TestAServerThatIsKilledDropsOutWhenItsLeaseDoes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	lasting := l.config(t, "lasts", "10.213.1.1:6443")
	lasts := l.run(t, lasting)
	cfg := l.config(t, "dies", "10.213.1.2:6443")
	cfg.LeaseTTL = 1500 * time.Millisecond
	dies := l.spawn(t, cfg)
	eventually(t, "both are listed", func() bool { return len(lasts.endpoints(t)) == 2 })

	// It stays for longer than its lease while it lives.
	time.Sleep(cfg.LeaseTTL + cfg.LeaseTTL/2)
	if got := lasts.endpoints(t); len(got) != 2 {
		t.Fatalf("endpoints %v, want two while both live", got)
	}
	begin := time.Now()
	if err := dies.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := lasts.endpoints(t); len(got) != 2 {
		t.Errorf("endpoints %v right after the kill, want two: nobody can know yet", got)
	}
	eventually(t, "the dead server is off the list", func() bool { return len(lasts.endpoints(t)) == 1 })
	if took := time.Since(begin); took > cfg.LeaseTTL+2*time.Second {
		t.Errorf("it took %s with a lease of %s", took, cfg.LeaseTTL)
	}

	// The last one stays on the list, whatever becomes of it.
	lasts.stop(t)
	next := l.config(t, "next", "10.213.1.3:6443")
	if err := os.WriteFile(next.UnreadyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reader := l.run(t, next)
	if got := reader.endpoints(t); !cmp.Equal(got, []string{"10.213.1.1"}) {
		t.Errorf("endpoints %v without a server, want the last one's", got)
	}
	if err := os.Remove(next.UnreadyFile); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next server is the one", func() bool {
		return cmp.Equal(reader.endpoints(t), []string{"10.213.1.3"})
	})
}

func TestServersThatCannotShareASliceAreRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t, "one", "10.213.1.1:6443")
	for name, advertise := range map[string]string{
		"another port": "10.213.1.2:443", "another version of IP": "[fd00:213::2]:6443",
	} {
		t.Run(name, func(t *testing.T) {
			err := apiserver.Run(t.Context(), l.config(t, "two", advertise))
			want := "API server two: the API servers of a lab have to agree on the port and on IPv4 or IPv6: " +
				"this one has " + advertise + ", and one has 10.213.1.1:6443"
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestRunSaysWhyItCannotBegin(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	good := l.config(t, "one", "10.213.1.1:6443")
	tests := []struct {
		name   string
		change func(*apiserver.Config)
		want   string
	}{
		{"nothing is configured", func(c *apiserver.Config) { *c = apiserver.Config{LeaseTTL: -1} },
			"API server: name \"\" is not a DNS name in lower case\nno address to serve on\n" +
				"no certificate and key\nno state directory\ntimes must not be negative"},
		{"a name that leads elsewhere", func(c *apiserver.Config) { c.Name = "../one" },
			`API server: name "../one" is not a DNS name in lower case`},
		{"no state", func(c *apiserver.Config) { c.StateDir = "/nonexistent" },
			"API server one: mkdir /nonexistent/leases: no such file or directory"},
		{"no client CA", func(c *apiserver.Config) { c.ClientCAFile = c.KeyFile },
			"API server one: " + good.KeyFile + " has no certificate in PEM"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := l.config(t, "one", "10.213.1.1:6443")
			defer cfg.Listener.Close()
			test.change(&cfg)
			if err := apiserver.Run(t.Context(), cfg); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	good.Listener.Close()
}
