package enrol

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

func TestLoadOrEnrol(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	foreign := testCA(t, time.Now().Add(-2*time.Hour), 0)
	good := func(t *testing.T, dir string) {
		writeState(t, dir, n.ca, certFor(t, n.ca, worker("n1"), IssueOptions{}))
	}
	expired := func(t *testing.T, dir string) {
		writeState(t, dir, n.ca, certFor(t, n.ca, worker("n1"), IssueOptions{Now: time.Now().Add(-time.Hour), Lifetime: time.Minute}))
	}
	fresh := func(t *testing.T) string { return n.token(t, "n1").Text() + "\n" }
	none := func(*testing.T) string { return "" }
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir string)
		token   func(*testing.T) string // "" means no file
		perm    os.FileMode
		want    []string // parts of the error; none means success
		same    bool     // the certificate on disk is left alone
	}{
		{"a new node enrols", func(*testing.T, string) {}, fresh, 0o600, nil, false},
		{"an enrolled node needs no token", good, none, 0o600, nil, true},
		{"an expired one enrols again with a new token", expired, fresh, 0o600, nil, false},
		{"an expired one of an authority that is gone enrols again", func(t *testing.T, dir string) {
			writeState(t, dir, foreign, certFor(t, foreign, worker("n1"), IssueOptions{Now: time.Now().Add(-time.Hour), Lifetime: time.Minute}))
		}, fresh, 0o600, nil, false},
		{"a new node in a directory with an authority that is gone enrols", func(t *testing.T, dir string) {
			writeTestFile(t, stateDir(dir).ca(), string(foreign.PEM()), 0o644)
		}, fresh, 0o600, nil, false},
		{"an expired one without a token", expired, none, 0o600, []string{"no enrolment token at "}, true},
		{"a token file that others may read", func(*testing.T, string) {}, fresh, 0o644, []string{"chmod 600 "}, false},
		{"a token file with something else", func(*testing.T, string) {}, func(*testing.T) string { return "hello" }, 0o600, []string{"token: token has 5 characters"}, false},
		{"a token that is not known", func(*testing.T, string) {}, func(*testing.T) string { return "aaaaaa." + strings.Repeat("a", 32) }, 0o600, []string{addr, "token is not known here"}, false},
		{"the certificate of another node", func(t *testing.T, dir string) {
			writeState(t, dir, n.ca, certFor(t, n.ca, worker("n2"), IssueOptions{}))
		}, fresh, 0o600, []string{"node.crt belongs to muster://atlas.k8s.local/worker/n2; this node is muster://atlas.k8s.local/worker/n1"}, true},
		{"a whole state of another authority", func(t *testing.T, dir string) {
			writeState(t, dir, foreign, certFor(t, foreign, worker("n1"), IssueOptions{}))
		}, fresh, 0o600, []string{"ca.crt: authority is " + PinOf(foreign.Certificate).String(), "this node trusts " + PinOf(n.ca.Certificate).String()}, true},
		{"a certificate of another authority than the one beside it", func(t *testing.T, dir string) {
			writeState(t, dir, n.ca, certFor(t, foreign, worker("n1"), IssueOptions{}))
		}, fresh, 0o600, []string{"node.crt was issued by another authority than"}, true},
		{"a key that others may read", func(t *testing.T, dir string) {
			good(t, dir)
			if err := os.Chmod(stateDir(dir).key(), 0o640); err != nil {
				t.Fatal(err)
			}
		}, fresh, 0o600, []string{"chmod 600 "}, true},
		{"a certificate without its key", func(t *testing.T, dir string) {
			good(t, dir)
			if err := os.Remove(stateDir(dir).key()); err != nil {
				t.Fatal(err)
			}
		}, fresh, 0o600, []string{"its key is not in", "remove the certificate and enrol again"}, true},
		{"a certificate without its authority", func(t *testing.T, dir string) {
			good(t, dir)
			if err := os.Remove(stateDir(dir).ca()); err != nil {
				t.Fatal(err)
			}
		}, fresh, 0o600, []string{"ca.crt is missing beside"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.prepare(t, dir)
			before, _ := os.ReadFile(stateDir(dir).cert())
			tokenFile := filepath.Join(t.TempDir(), "token")
			if text := tt.token(t); text != "" {
				writeTestFile(t, tokenFile, text, tt.perm)
			}
			creds, err := LoadOrEnrol(within(t, 10*time.Second), dir, newTestClient(t, n.ca, addr), tokenFile, worker("n1"))
			after, _ := os.ReadFile(stateDir(dir).cert())
			if tt.same && string(before) != string(after) {
				t.Error("the certificate on disk was replaced")
			}
			if tt.want != nil {
				for _, want := range tt.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("got %v, want an error with %q", err, want)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if id, err := n.ca.Verifier().Verify(creds.Current().Leaf, time.Now()); err != nil || id != worker("n1") {
				t.Errorf("got a certificate for %v, %v", id, err)
			}
		})
	}
}

func TestTheStateDirectoryAfterEnrolment(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	creds := enrolled(t, n, "n1")
	got := make(map[string]fs.FileMode)
	entries, err := os.ReadDir(string(creds.state))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = info.Mode().Perm()
	}
	want := map[string]fs.FileMode{"node.key": 0o600, "node.crt": 0o644, "ca.crt": 0o644}
	if len(got) != len(want) || got["node.key"] != want["node.key"] || got["node.crt"] != want["node.crt"] || got["ca.crt"] != want["ca.crt"] {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheKeyIsOnDiskBeforeAnybodyIsAsked(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	dir := filepath.Join(t.TempDir(), "state")
	asked := false
	client, err := NewClient(ClientConfig{
		Servers: []string{n.listen(t)}, ServerName: ServerName(testCluster), Pin: PinOf(n.ca.Certificate),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			asked = true
			if _, err := readKey(stateDir(dir).key()); err != nil {
				t.Errorf("asked before the key was stored: %v", err)
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	tokenFile := writeTestFile(t, filepath.Join(t.TempDir(), "token"), n.token(t, "").Text(), 0o600)
	if _, err := LoadOrEnrol(within(t, 10*time.Second), dir, client, tokenFile, worker("n1")); err != nil {
		t.Fatal(err)
	}
	if !asked {
		t.Error("nobody was asked")
	}
}

// lossy loses the first answer after the server has given it.
func lossy(h http.Handler) http.Handler {
	first := true
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			h.ServeHTTP(discard{make(http.Header)}, r)
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	})
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func TestALostAnswerStrandsNobody(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	cfg, err := ServerTLS(n.creds)
	if err != nil {
		t.Fatal(err)
	}
	l := loopback(t)
	serveHTTP(t, l, &http.Server{Handler: lossy(n.server), TLSConfig: cfg})
	dir := filepath.Join(t.TempDir(), "state")
	tokenFile := writeTestFile(t, filepath.Join(t.TempDir(), "token"), n.token(t, "").Text(), 0o600)
	client := newTestClient(t, n.ca, l.Addr().String())

	// The answer is lost and the node is switched off at once.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	ctx = cutAfterFirstAttempt(ctx, client, cancel)
	if _, err := LoadOrEnrol(ctx, dir, client, tokenFile, worker("n1")); err == nil {
		t.Fatal("the answer was not lost")
	}
	infos, err := n.tokens.List()
	if err != nil || infos[0].Used.IsZero() {
		t.Fatalf("the token is not used up: %+v, %v", infos, err)
	}
	// It comes back with what it had on disk.
	if _, err := LoadOrEnrol(within(t, 10*time.Second), dir, client, tokenFile, worker("n1")); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// cutAfterFirstAttempt returns a context that ends when the client's first
// connection closes.
func cutAfterFirstAttempt(ctx context.Context, c *Client, cancel context.CancelFunc) context.Context {
	dial := c.cfg.Dial
	c.cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		c.cfg.Dial = dial
		return closeHook{conn, cancel}, err
	}
	return ctx
}

type closeHook struct {
	net.Conn
	hook func()
}

func (c closeHook) Close() error {
	c.hook()
	return c.Conn.Close()
}

// However an enrolment or a renewal is cut short, what is on disk is usable and
// the next go completes it.
func TestEveryCutInWritingLeavesAUsableState(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	addr := n.listen(t)
	old, next := certFor(t, n.ca, worker("n1"), IssueOptions{}), certFor(t, n.ca, worker("n1"), IssueOptions{})
	keyPEM := func(c *tls.Certificate) string {
		data, err := encodeKey(c.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	certPEM := func(c *tls.Certificate) string { return string(encodeCertificate(c.Certificate[0])) }
	ca := string(n.ca.PEM())
	tests := []struct {
		name  string
		files map[string]string
		want  *tls.Certificate // nil: not enrolled yet
	}{
		{"before anything", nil, nil},
		{"the first key is written", map[string]string{"node.key": keyPEM(old)}, nil},
		{"the authority is written", map[string]string{"node.key": keyPEM(old), "ca.crt": ca}, nil},
		{"enrolled", map[string]string{"node.key": keyPEM(old), "ca.crt": ca, "node.crt": certPEM(old)}, old},
		{"the next key is written", map[string]string{"node.key": keyPEM(old), "ca.crt": ca, "node.crt": certPEM(old), "node.key.next": keyPEM(next)}, old},
		{"the next certificate is written", map[string]string{"node.key": keyPEM(old), "ca.crt": ca, "node.crt": certPEM(next), "node.key.next": keyPEM(next)}, next},
		{"the next key is in place", map[string]string{"node.key": keyPEM(next), "ca.crt": ca, "node.crt": certPEM(next)}, next},
		{"a temporary file is left over", map[string]string{"node.key": keyPEM(old), "ca.crt": ca, "node.crt": certPEM(old), ".node.crt123": "half"}, old},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range tt.files {
				writeTestFile(t, filepath.Join(dir, name), data, 0o600)
			}
			creds, err := LoadCredentials(dir, worker("n1"), nil)
			if tt.want == nil {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v, want fs.ErrNotExist", err)
				}
			} else if err != nil || creds.Current().Leaf.SerialNumber.Cmp(tt.want.Leaf.SerialNumber) != 0 {
				t.Fatalf("got %v, want the certificate in force", err)
			}
			client := newTestClient(t, n.ca, addr)
			tokenFile := writeTestFile(t, filepath.Join(t.TempDir(), "token"), n.token(t, "").Text(), 0o600)
			creds, err = LoadOrEnrol(within(t, 10*time.Second), dir, client, tokenFile, worker("n1"))
			if err != nil {
				t.Fatal(err)
			}
			if key, ok := tt.files["node.key"]; ok && tt.want == nil {
				if got, _ := os.ReadFile(filepath.Join(dir, "node.key")); string(got) != key {
					t.Error("the key that the token may be bound to was replaced")
				}
			}
			before := creds.Current()
			if err := creds.renew(within(t, 10*time.Second), client); err != nil {
				t.Fatalf("renewal: %v", err)
			}
			after := creds.Current()
			if samePublicKey(before.Leaf.PublicKey, after.Leaf.PublicKey) {
				t.Error("renewed for the same key")
			}
			again, err := LoadCredentials(dir, worker("n1"), nil)
			if err != nil || !again.Current().Leaf.Equal(after.Leaf) {
				t.Errorf("on disk after the renewal: %v", err)
			}
			if _, err := os.Stat(stateDir(dir).nextKey()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the next key is left over: %v", err)
			}
		})
	}
}

func TestLoadCredentialsTellsExpiryApart(t *testing.T) {
	ca := testCA(t, time.Now().Add(-2*time.Hour), 0)
	dir := t.TempDir()
	writeState(t, dir, ca, certFor(t, ca, worker("n1"), IssueOptions{Now: time.Now().Add(-time.Hour), Lifetime: time.Minute}))
	_, err := LoadCredentials(dir, worker("n1"), nil)
	if !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "node.crt: certificate has expired at ") {
		t.Errorf("got %v, want ErrExpired with file and time", err)
	}
}

func TestReplacedFilesAreTakenOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ca := testCA(t, time.Now(), 0)
		dir := t.TempDir()
		first, second := certFor(t, ca, worker("n1"), IssueOptions{}), certFor(t, ca, worker("n1"), IssueOptions{})
		writeState(t, dir, ca, first)
		var logs logBuffer
		creds, err := LoadCredentials(dir, worker("n1"), logs.logger())
		if err != nil {
			t.Fatal(err)
		}
		current := func() *tls.Certificate { c := creds.Current(); return &c }

		broken := map[string]func(){
			"a broken file":      func() { writeTestFile(t, stateDir(dir).cert(), "broken", 0o644) },
			"no file":            func() { os.Remove(stateDir(dir).cert()) },
			"another node's":     func() { writeState(t, dir, ca, certFor(t, ca, worker("n2"), IssueOptions{})) },
			"half a replacement": func() { writeTestFile(t, stateDir(dir).cert(), string(encodeCertificate(second.Leaf.Raw)), 0o644) },
		}
		for name, replace := range broken {
			replace()
			before := strings.Count(logs.String(), "unusable")
			for range 5 {
				time.Sleep(recheckInterval)
				if !current().Leaf.Equal(first.Leaf) {
					t.Errorf("%s: the certificate in use was given up", name)
				}
			}
			if got := strings.Count(logs.String(), "unusable") - before; got != 1 {
				t.Errorf("%s: %d log lines, want 1", name, got)
			}
			writeState(t, dir, ca, first)
			time.Sleep(recheckInterval)
			current()
		}

		writeState(t, dir, ca, second)
		time.Sleep(recheckInterval)
		if !current().Leaf.Equal(second.Leaf) {
			t.Error("the replacement was not taken over")
		}
	})
}

func TestBothSidesUseTheCertificateOfTheMoment(t *testing.T) {
	n := newCluster(t, "cp1")[0]
	creds := enrolled(t, n, "n1")
	cfg, err := ServerTLS(n.creds)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan *tls.ConnectionState, 2)
	l := loopback(t)
	serveHTTP(t, l, &http.Server{TLSConfig: cfg, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if id, err := RequireIdentity(r, n.creds.Verifier(), identity.Worker); err != nil || id != worker("n1") {
			t.Errorf("got %v, %v", id, err)
		}
		seen <- r.TLS
	})})
	// One configuration for ever, as a long-lived component has it.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: creds.TLSClientConfig(ServerName(testCluster)), DisableKeepAlives: true}, Timeout: 10 * time.Second}
	call := func() (server, worker string) {
		t.Helper()
		resp, err := client.Get("https://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].SerialNumber.String(), (<-seen).PeerCertificates[0].SerialNumber.String()
	}
	server1, worker1 := call()
	renewer := newTestClient(t, n.ca, n.listen(t))
	if err := creds.renew(within(t, 10*time.Second), renewer); err != nil {
		t.Fatal(err)
	}
	// Lasts as long as the authority, so it is replaced by hand.
	writeState(t, string(n.creds.state), n.ca, certFor(t, n.ca, controlPlane("cp1"), serverNames(n.creds.Current().Leaf)))
	n.creds.reloadNow()
	server2, worker2 := call()
	if server1 == server2 || worker1 == worker2 {
		t.Errorf("server %s then %s, worker %s then %s; want other certificates", server1, server2, worker1, worker2)
	}
}
