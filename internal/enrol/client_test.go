package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEnrolOverLoopback(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	caFile := writeTestFile(t, filepath.Join(t.TempDir(), "ca.crt"), string(n.ca.PEM()), 0o644)
	pin := PinOf(n.ca.Certificate)
	name := ServerName(testCluster)
	tests := []struct {
		name string
		cfg  ClientConfig
	}{
		{"with the pin alone", ClientConfig{Servers: []string{addr}, ServerName: name, Pin: pin}},
		{"with the authority's file alone", ClientConfig{Servers: []string{addr}, ServerName: name, CAFile: caFile}},
		{"with both", ClientConfig{Servers: []string{addr}, ServerName: name, Pin: pin, CAFile: caFile}},
		{"past a server that is down", ClientConfig{Servers: []string{deadAddress(t), addr}, ServerName: name, Pin: pin}},
		{"at a server that was discovered", ClientConfig{Discovered: func() []string { return []string{addr} }, ServerName: name, Pin: pin}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := NewClient(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			key := mustKey(t)
			issued, err := client.Enrol(within(t, 10*time.Second), n.token(t, "n1"), worker("n1"), key)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := n.ca.Verifier().Verify(issued.Certificate, time.Now()); err != nil || id != worker("n1") {
				t.Errorf("got a certificate for %v, %v", id, err)
			}
			if PinOf(issued.CA) != pin || issued.Server != addr {
				t.Errorf("got authority %s from %s", PinOf(issued.CA), issued.Server)
			}
		})
	}
}

// serveChain serves a handler with a chain of certificates.
func serveChain(t testing.TB, h http.Handler, leaf *tls.Certificate, others ...*x509.Certificate) string {
	t.Helper()
	cert := *leaf
	for _, o := range others {
		cert.Certificate = append(slices.Clone(cert.Certificate), o.Raw)
	}
	l := loopback(t)
	serveHTTP(t, l, &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}})
	return l.Addr().String()
}

func TestHostileServersGetNoToken(t *testing.T) {
	ours := testCA(t, time.Now().Add(-2*time.Hour), 0)
	theirs := testCA(t, time.Now().Add(-2*time.Hour), 0)
	names := IssueOptions{DNSNames: []string{ServerName(testCluster)}}
	good, foreign := certFor(t, ours, controlPlane("cp1"), names), certFor(t, theirs, controlPlane("cp1"), names)
	stale := names
	stale.Now, stale.Lifetime = time.Now().Add(-time.Hour), time.Minute
	// A certificate with our authority's key and another's signature.
	forged, err := x509.CreateCertificate(nil, ours.Certificate, theirs.Certificate, ours.Certificate.PublicKey, theirs.key)
	if err != nil {
		t.Fatal(err)
	}
	// A node's certificate does not make its key an authority.
	under := *good.Leaf
	mallory := mustKey(t)
	sub, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: good.Leaf.SerialNumber, NotBefore: good.Leaf.NotBefore, NotAfter: good.Leaf.NotAfter,
		DNSNames: names.DNSNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, &under, mallory.Public(), good.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	byNode := &tls.Certificate{Certificate: [][]byte{sub, good.Leaf.Raw}, PrivateKey: mallory}

	tests := []struct {
		name  string
		leaf  *tls.Certificate
		chain []*x509.Certificate
		pin   Pin
		file  bool // known by file instead of by pin
		want  string
	}{
		{"another authority", foreign, []*x509.Certificate{theirs.Certificate}, PinOf(ours.Certificate), false, "server presents authority sha256:"},
		{"the right authority beside a leaf of another", foreign, []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "unknown authority"},
		{"both authorities beside a leaf of the wrong one", foreign, []*x509.Certificate{theirs.Certificate, ours.Certificate}, PinOf(ours.Certificate), false, "unknown authority"},
		{"the right chain for another name", certFor(t, ours, controlPlane("cp1"), IssueOptions{DNSNames: []string{"muster.internal.beta"}}), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "not muster.internal.atlas"},
		{"the right chain without a name", certFor(t, ours, controlPlane("cp1"), IssueOptions{}), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "not valid for any names"},
		{"a worker that plays server", certFor(t, ours, worker("n1"), IssueOptions{}), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "muster.internal.atlas"},
		{"an expired leaf", certFor(t, ours, controlPlane("cp1"), stale), []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "expired"},
		{"no authority in the chain", good, nil, PinOf(ours.Certificate), false, "presents no authority"},
		{"the leaf's own key pinned", good, []*x509.Certificate{ours.Certificate}, PinOf(good.Leaf), false, "server presents authority"},
		{"the right key in a certificate that it did not sign", good, []*x509.Certificate{mustParse(t, forged)}, PinOf(ours.Certificate), false, "not signed by its own key"},
		{"a leaf issued by a node", byNode, []*x509.Certificate{ours.Certificate}, PinOf(ours.Certificate), false, "unknown authority"},
		{"another authority, ours known by file", foreign, []*x509.Certificate{theirs.Certificate}, Pin{}, true, "unknown authority"},
		{"the right authority's file, another name", certFor(t, ours, controlPlane("cp1"), IssueOptions{DNSNames: []string{"a"}}), nil, Pin{}, true, "not muster.internal.atlas"},
	}
	token, err := newToken()
	if err != nil {
		t.Fatal(err)
	}
	caFile := writeTestFile(t, filepath.Join(t.TempDir(), "ca.crt"), string(ours.PEM()), 0o644)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			addr := serveChain(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }), tt.leaf, tt.chain...)
			cfg := ClientConfig{Servers: []string{addr}, ServerName: ServerName(testCluster), Pin: tt.pin}
			if tt.file {
				cfg.CAFile = caFile
			}
			client, err := NewClient(cfg)
			if err != nil {
				t.Fatal(err)
			}
			issued, failed := client.round(within(t, 10*time.Second), askFor(t, client, token))
			if issued != nil || !strings.Contains(failed.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error with %q", issued, failed, tt.want)
			}
			if failed.definitive() {
				t.Error("a server that is not ours ended the enrolment")
			}
			if len(asked) > 0 {
				t.Error("the request, with the token, reached the server")
			}
		})
	}
}

// askFor is one enrolment of n1.
func askFor(t testing.TB, c *Client, token Token) ask {
	t.Helper()
	key := mustKey(t)
	req, err := newRequest(worker("n1"), key)
	if err != nil {
		t.Fatal(err)
	}
	req.Token = token.Text()
	return ask{path: EnrolPath, request: req, id: worker("n1"), key: key.Public(), tls: c.trust.config(c.cfg.ServerName)}
}

func TestAnswersThatAreNotBelieved(t *testing.T) {
	ca, foreign := testCA(t, time.Now(), 0), testCA(t, time.Now(), 0)
	server := certFor(t, ca, controlPlane("cp1"), IssueOptions{DNSNames: []string{ServerName(testCluster)}})
	success := func(a answer) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, a) }
	}
	refusal := func(status int, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { writeFault(w, &fault{status, kind, "no"}) }
	}
	// Issues what was asked for, but not to whom.
	issue := func(ca *CA, change func(*ask)) func(a ask) http.HandlerFunc {
		return func(a ask) http.HandlerFunc {
			change(&a)
			der, err := ca.Issue(a.key, a.id, IssueOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return success(answer{APIVersion: APIVersion, Certificate: string(encodeCertificate(der)), CA: string(ca.PEM())})
		}
	}
	always := func(h http.HandlerFunc) func(ask) http.HandlerFunc { return func(ask) http.HandlerFunc { return h } }
	otherKey := mustKey(t).Public()
	tests := []struct {
		name       string
		handler    func(ask) http.HandlerFunc
		want       string
		definitive bool
	}{
		{"a certificate for another key", issue(ca, func(a *ask) { a.key = otherKey }), "another key", false},
		{"a certificate for another node", issue(ca, func(a *ask) { a.id = worker("n2") }), "issued certificate is for", false},
		{"a certificate of another authority", issue(foreign, func(*ask) {}), "unknown authority", false},
		{"no certificate", always(success(answer{APIVersion: APIVersion})), "no PEM block", false},
		{"another version", always(success(answer{APIVersion: "v9"})), "v9", false},
		{"no JSON", always(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), "not a JSON object", false},
		{"an answer without end", always(func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				fmt.Fprint(w, strings.Repeat(" ", 1<<10))
			}
		}), "not a JSON object", false},
		{"a redirect", always(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "https://example.com/", 307) }), "status 307", false},
		{"a 404 of something else", always(http.NotFound), "status 404", false},
		{"an overloaded server", always(refusal(429, kindRateLimited)), kindRateLimited, false},
		{"a server with a fault", always(refusal(500, kindInternal)), kindInternal, false},
		{"a kind that this program does not know", always(refusal(403, "new-kind")), "new-kind", false},
		{"a refusal with the wrong status", always(refusal(502, kindTokenUsed)), "status 502", false},
		{"a refusal", always(refusal(401, kindTokenUnknown)), kindTokenUnknown, true},
	}
	token, err := newToken()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h http.HandlerFunc
			addr := serveChain(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(w, r) }), server, ca.Certificate)
			client := newTestClient(t, ca, addr)
			a := askFor(t, client, token)
			h = tt.handler(a)
			issued, failed := client.round(within(t, 10*time.Second), a)
			if issued != nil || !strings.Contains(failed.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error with %q", issued, failed, tt.want)
			}
			if got := failed.definitive(); got != tt.definitive {
				t.Errorf("definitive: got %t, want %t", got, tt.definitive)
			}
		})
	}
}

func TestWhenARefusalIsDefinitive(t *testing.T) {
	unknown := &fault{401, kindTokenUnknown, "x"}
	used := &fault{403, kindTokenUsed, "x"}
	busy := &fault{429, kindRateLimited, "x"}
	down := errors.New("connection refused")
	tests := []struct {
		name  string
		round []error
		want  bool
	}{
		{"one server does not know the token", []error{unknown}, true},
		{"no server of three knows it", []error{unknown, unknown, unknown}, true},
		{"the one that may know it is down", []error{unknown, down, unknown}, false},
		{"the one that may know it is busy", []error{unknown, busy}, false},
		{"the one that knows it says used, another is down", []error{down, used, unknown}, true},
		{"all are down", []error{down, down}, false},
		{"wrapped on the way", []error{fmt.Errorf("x: %w", unknown)}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r roundError
			for i, err := range tt.round {
				r = append(r, serverError{fmt.Sprintf("cp%d:1", i), err})
			}
			if got := r.definitive(); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// pipeClient returns a client of ca on an in-memory network.
func pipeClient(t testing.TB, p *pipeNet, ca *CA, servers ...string) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{Servers: servers, ServerName: ServerName(testCluster), Pin: PinOf(ca.Certificate), Dial: p.Dial})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestATokenKnownToOneServerOfThreeIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := newCluster(t, "cp1", "cp2", "cp3")
		net := newPipeNet()
		for i, n := range nodes {
			n.serve(t, net.listen(fmt.Sprintf("cp%d:1", i+1)))
		}
		client := pipeClient(t, net, nodes[0].ca, "cp1:1", "cp2:1", "cp3:1")
		for i, n := range nodes {
			name := fmt.Sprintf("n%d", i)
			issued, err := client.Enrol(t.Context(), n.token(t, ""), worker(name), mustKey(t))
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("cp%d:1", i+1); issued.Server != want {
				t.Errorf("issued by %s, want %s", issued.Server, want)
			}
		}
	})
}

func TestDefinitiveRefusalsAreReturned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := newCluster(t, "cp1", "cp2")
		net := newPipeNet()
		nodes[0].serve(t, net.listen("cp1:1"))
		nodes[1].serve(t, net.listen("cp2:1"))
		client := pipeClient(t, net, nodes[0].ca, "cp1:1", "cp2:1")
		stranger, err := newToken()
		if err != nil {
			t.Fatal(err)
		}
		spent := nodes[1].token(t, "")
		if _, err := client.Enrol(t.Context(), spent, worker("n1"), mustKey(t)); err != nil {
			t.Fatal(err)
		}
		brief, err := nodes[0].tokens.Create(time.Second, "", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		tests := []struct {
			name  string
			token Token
			want  error
		}{
			{"a token that nobody knows", stranger, ErrTokenUnknown},
			{"a token that another key has used", spent, ErrTokenUsed},
			{"an expired token", brief, ErrTokenExpired},
			{"a token for another node", nodes[0].token(t, "n9"), ErrTokenNode},
		}
		for _, tt := range tests {
			start := time.Now()
			_, err := client.Enrol(t.Context(), tt.token, worker("n1"), mustKey(t))
			if !errors.Is(err, tt.want) || !errors.Is(err, ErrRefused) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
				continue
			}
			if got := time.Since(start); got > 0 {
				t.Errorf("%s: found out after %s, want the first round", tt.name, got)
			}
			if msg := err.Error(); strings.Contains(msg, tt.token.Text()[7:]) || !strings.Contains(msg, "cp1:1") || !strings.Contains(msg, "cp2:1") || strings.Contains(msg, "\n") {
				t.Errorf("%s: message %q", tt.name, msg)
			}
		}
	})
}

func TestAServerThatHangsCostsItsDeadlineAndNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		net := newPipeNet()
		net.listen("hangs:1") // accepts nothing
		n.serve(t, net.listen("cp1:1"))
		client := pipeClient(t, net, n.ca, "hangs:1", "cp1:1")
		most := time.Duration(0)
		for i := range 10 { // whichever comes first
			start := time.Now()
			if _, err := client.Enrol(t.Context(), n.token(t, ""), worker(fmt.Sprintf("n%d", i)), mustKey(t)); err != nil {
				t.Fatal(err)
			}
			most = max(most, time.Since(start))
		}
		if most != 0 && most != DefaultPerServer {
			t.Errorf("slowest enrolment took %s, want none or %s", most, DefaultPerServer)
		}
	})
}

func TestASilentServerIsGivenUpAtItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		p := newPipeNet()
		l := p.listen("silent:1")
		var conns []net.Conn
		done := make(chan struct{})
		go func() { // accepts, then says nothing
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				conns = append(conns, c)
			}
		}()
		client := pipeClient(t, p, n.ca, "silent:1")
		ctx, cancel := context.WithTimeout(t.Context(), DefaultPerServer+time.Millisecond)
		defer cancel()
		_, err := client.Enrol(ctx, n.token(t, ""), worker("n1"), mustKey(t))
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "silent:1: no answer within 5s") {
			t.Errorf("got %v", err)
		}
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
}

// kOps's nodes doubled their pause without a bound: a worker whose control plane
// was away for an hour slept for another one after it came back.
func TestAWorkerIsInSecondsAfterALongOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		net := newPipeNet()
		client := pipeClient(t, net, n.ca, "cp1:1", "cp2:1")
		tokens := n.token(t, "")
		const outage = 59 * time.Minute
		back := time.Now().Add(outage)
		timer := time.AfterFunc(outage, func() { n.serve(t, net.listen("cp2:1")) })
		defer timer.Stop()
		if _, err := client.Enrol(t.Context(), tokens, worker("n1"), mustKey(t)); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(back); late > maxPause {
			t.Errorf("enrolled %s after the server came back, want at most %s", late, maxPause)
		}
		calls := net.calls()
		longest := time.Duration(0)
		for i := 1; i < len(calls); i++ {
			longest = max(longest, calls[i].Sub(calls[i-1]))
		}
		if longest > maxPause || longest < maxPause/2 {
			t.Errorf("longest pause %s, want it near and under %s", longest, maxPause)
		}
		// Both servers in each round, and not in a hot loop either.
		if got, most := len(calls), 2*int(outage/(maxPause/2))+20; got > most || got < int(outage/maxPause) {
			t.Errorf("%d attempts in %s, want between %d and %d", got, outage, int(outage/maxPause), most)
		}
	})
}

func TestEnrolEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		client := pipeClient(t, newPipeNet(), n.ca, "cp1:1", "cp2:1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		token := n.token(t, "")
		_, err := client.Enrol(ctx, token, worker("n1"), mustKey(t))
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
			t.Fatalf("got %v, want the deadline", err)
		}
		want := "enrol muster://atlas.k8s.local/worker/n1: gave up: context deadline exceeded; last answers: cp1:1: connection refused; cp2:1: connection refused"
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	})
}

func TestWhatStandsInTheWayIsLoggedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newCluster(t, "cp1")[0]
		var logs logBuffer
		client, err := NewClient(ClientConfig{Servers: []string{"cp1:1", "cp2:1"}, ServerName: ServerName(testCluster),
			Pin: PinOf(n.ca.Certificate), Dial: newPipeNet().Dial, Log: logs.logger()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		_, _ = client.Enrol(ctx, n.token(t, ""), worker("n1"), mustKey(t))
		if got := strings.Count(logs.String(), "no certificate yet"); got != 1 {
			t.Errorf("%d lines, want 1:\n%s", got, logs.String())
		}
	})
}

func TestServersOfARound(t *testing.T) {
	c := &Client{cfg: ClientConfig{Servers: []string{"a:1", "b:1", "c:1"}, Discovered: func() []string { return []string{"d:1", "b:1"} }}}
	firsts := make(map[string]bool)
	for range 200 {
		got := c.servers()
		firsts[got[0]] = true
		head := slices.Sorted(slices.Values(got[:2]))
		all := slices.Sorted(slices.Values(got))
		if !slices.Equal(head, []string{"b:1", "d:1"}) || !slices.Equal(all, []string{"a:1", "b:1", "c:1", "d:1"}) {
			t.Fatalf("got %v, want the discovered ones first and each once", got)
		}
	}
	if len(firsts) != 2 {
		t.Errorf("rounds start at %v only", firsts)
	}
}

func TestClientConfigReportsEveryFault(t *testing.T) {
	_, err := NewClient(ClientConfig{PerServer: -1})
	for _, want := range []string{"at least one server", "name that servers prove", "pin", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	ca, other := testCA(t, time.Now(), 0), testCA(t, time.Now(), 0)
	dir := t.TempDir()
	caFile := writeTestFile(t, filepath.Join(dir, "ca.crt"), string(ca.PEM()), 0o644)
	leafFile := writeTestFile(t, filepath.Join(dir, "leaf.crt"), string(encodeCertificate(certFor(t, ca, worker("n"), IssueOptions{}).Leaf.Raw)), 0o644)
	good := ClientConfig{Servers: []string{"[::1]:3990"}, ServerName: ServerName(testCluster), CAFile: caFile}
	tests := []struct {
		name   string
		change func(*ClientConfig)
		want   string // "" means accepted
	}{
		{"as it should be", func(*ClientConfig) {}, ""},
		{"a server without a port", func(c *ClientConfig) { c.Servers = []string{"10.0.0.1"} }, "not HOST:PORT"},
		{"a server without a host", func(c *ClientConfig) { c.Servers = []string{":3990"} }, "not HOST:PORT"},
		{"a port that is none", func(c *ClientConfig) { c.Servers = []string{"a:99999"} }, "not HOST:PORT"},
		{"a pin of another authority than the file's", func(c *ClientConfig) { c.Pin = PinOf(other.Certificate) }, "this node trusts"},
		{"a file that is missing", func(c *ClientConfig) { c.CAFile = filepath.Join(dir, "none") }, "none"},
		{"a node's certificate for an authority", func(c *ClientConfig) { c.CAFile = leafFile }, "not a certificate authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			_, err := NewClient(cfg)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	ca, err := NewCA(testCluster, time.Now(), 0)
	if err != nil {
		f.Fatal(err)
	}
	key := mustKey(f)
	der, err := ca.Issue(key.Public(), worker("n1"), IssueOptions{})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(answer{APIVersion: APIVersion, Certificate: string(encodeCertificate(der))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(200, good)
	f.Add(401, []byte(`{"error":{"kind":"token-unknown","message":"x"}}`))
	f.Add(500, []byte(`{}`))
	a := ask{id: worker("n1"), key: key.Public()}
	f.Fuzz(func(t *testing.T, status int, data []byte) {
		if issued, err := a.accept("s", ca.Certificate, data); err == nil && string(issued.Certificate.Raw) != string(der) {
			t.Errorf("%q was taken for a certificate", data)
		}
		err := readFault(status, data)
		if err == nil {
			t.Fatalf("status %d with %q is no fault", status, data)
		}
		if (roundError{{"s", err}}).definitive() && (status < 400 || status > 499) {
			t.Errorf("status %d with %q is definitive", status, data)
		}
	})
}
