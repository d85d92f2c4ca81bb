package node

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-dev/muster/internal/enrol"
)

// awaiting is a directory with a worker's configuration and what it needs to enrol.
type awaiting struct {
	t   *testing.T
	dir string
}

func newAwaiting(t *testing.T) awaiting {
	a := awaiting{t, t.TempDir()}
	token, err := (&enrol.TokenStore{Path: filepath.Join(a.dir, "tokens.json")}).Create(time.Hour, "w1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.write("token", token.Text()+"\n", 0o600)
	a.write("api.crt", caPEM(t), 0o644)
	a.write("hosts", "127.0.0.1 localhost\n", 0o644)
	return a
}

func caPEM(t *testing.T) string {
	t.Helper()
	ca, err := enrol.NewCA("home.example", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.PEM())
}

func (a awaiting) write(name, content string, mode os.FileMode) {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		a.t.Fatal(err)
	}
}

func (a awaiting) remove(name string) {
	a.t.Helper()
	if err := os.Remove(filepath.Join(a.dir, name)); err != nil {
		a.t.Fatal(err)
	}
}

// load reads a configuration, workerYAML with edits: pairs of what is replaced and by what.
func (a awaiting) load(edits ...string) Config {
	a.t.Helper()
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(workerYAML, edits[i]) {
			a.t.Fatalf("the fixture has no %q", edits[i])
		}
	}
	text := strings.NewReplacer(edits...).Replace(workerYAML) + "stateDir: state\nhosts: {path: hosts}\nstatus: {listen: \"127.0.0.1:0\"}\n"
	a.write("node.yaml", text, 0o644)
	cfg, err := LoadConfig(filepath.Join(a.dir, "node.yaml"))
	if err != nil {
		a.t.Fatal(err)
	}
	return cfg
}

const discoverySection = `discovery:
  servers: ["10.0.0.1:7947"]
  tokenFile: token
`

func TestCheckAwaitedSaysWhatADaemonWouldWaitFor(t *testing.T) {
	const balance = "  balance: 127.0.0.1:6443\n"
	ownCA := func(path string) []string { return []string{balance, balance + "  ca: " + path + "\n"} }
	for _, tt := range []struct {
		name   string
		edits  []string
		before func(awaiting)
		want   string // "" for no fault
	}{
		{name: "a worker that has all it needs to enrol"},
		{name: "a service's own CA", edits: ownCA("api.crt")},
		{name: "a service's CA that nobody will write", edits: ownCA("/nonexistent.crt"),
			want: `services[0] "api.internal": ca /nonexistent.crt: no such file or directory; put the CA there`},
		{name: "a service's CA that is none", edits: ownCA("hosts"), want: "hosts: no PEM certificate in it"},
		{name: "a service's CA that enrolment writes", edits: ownCA("state/ca.crt")},
		{name: "a service's CA that enrolment would write, on a node that enrols nowhere",
			edits: append(ownCA("state/ca.crt"), discoverySection, ""), want: "state/ca.crt: no such file or directory; put"},
		{name: "a pin on a node that enrols nowhere", edits: []string{discoverySection, ""},
			want: "caPin: without discovery.servers the node enrols nowhere and never learns its CA"},
		{name: "a pin on a node that enrols nowhere and needs no CA of its own", edits: append(ownCA("api.crt"), discoverySection, "")},
		{name: "the node's CA that is none", edits: []string{"role: worker\n", "role: worker\nca: hosts\n"}, want: "hosts: no PEM certificate in it"},
		{name: "the node's CA that comes later, as when kubeadm writes it", edits: []string{"role: worker\n", "role: worker\nca: /nonexistent.crt\n"},
			want: "ca /nonexistent.crt: no such file or directory; put the CA there"},
		{name: "a slice's certificate that comes later", edits: []string{"services:\n", "endpointSlice: {certificate: c.crt, key: c.key}\nservices:\n"},
			want: "c.crt: no such file or directory"},
		{name: "a service's certificate that comes later", edits: []string{balance, balance + "  certificate: c.crt\n  key: c.key\n"},
			want: "c.crt: no such file or directory; until it is there, servers are asked anonymously"},
		{name: "a slice on a node that will have an identity", edits: []string{"services:\n", "endpointSlice: {}\nservices:\n"}},
		{name: "a slice on a node that is nobody", edits: append(ownCA("api.crt"), "services:\n", "endpointSlice: {}\nservices:\n", discoverySection, ""),
			want: "endpointSlice: neither certificate nor tokenFile, and the node has no identity of its own"},
		{name: "a slice's token that comes later", edits: []string{"services:\n", "endpointSlice: {tokenFile: later}\nservices:\n"},
			want: "later: no such file or directory"},
		{name: "a token that is missing", before: func(a awaiting) { a.remove("token") },
			want: "token: no such file, and no identity in "},
		{name: "a token that others can read", before: func(a awaiting) {
			if err := os.Chmod(filepath.Join(a.dir, "token"), 0o644); err != nil {
				a.t.Fatal(err)
			}
		}, want: "chmod 600"},
		{name: "a token that is none", before: func(a awaiting) { a.write("token", "hello", 0o600) }, want: "token has 5 characters"},
		{name: "no token named", edits: []string{"  tokenFile: token\n", ""}, want: "discovery.tokenFile: not set, and no identity in "},
		{name: "a node that has its identity needs no token", before: func(a awaiting) {
			a.remove("token")
			a.write("state/node.crt", "", 0o644)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAwaiting(t)
			if tt.before != nil {
				tt.before(a)
			}
			cfg := a.load(tt.edits...)
			if err := cfg.CheckFiles(); err != nil {
				t.Errorf("the daemon refuses to start: %v", err)
			}
			err := cfg.CheckAwaited()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

func TestServersAreUsedUncheckedUntilTheirCAIsThereAndTheNodeSaysSo(t *testing.T) {
	const balance = "  balance: 127.0.0.1:6443\n"
	for _, tt := range []struct {
		name, file, problem string
		edits               []string
	}{
		{"a service's own CA, before the node has enrolled", "later.crt", "later.crt: no such file", []string{balance, balance + "  ca: later.crt\n"}},
		{"the node's own CA, which kubeadm will write", "pki.crt", "pki.crt: no such file", []string{discoverySection, "", "role: worker\n", "role: worker\nca: pki.crt\n"}},
		{"the CA of a node that enrols nowhere", "state/ca.crt", "no CA, and the node enrols nowhere", []string{discoverySection, ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAwaiting(t)
			var log bytes.Buffer
			n, err := New(a.load(tt.edits...), Options{Program: "muster-agent", Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ca := caPEM(t)
			problems := func() string { return strings.Join(n.Report().Problems, "\n") }
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				found := make(chan bool)
				go func() {
					_, ok := n.awaitRoots(ctx, n.services[0])
					found <- ok
				}()
				time.Sleep(5*rootsEvery + rootsEvery/2)
				synctest.Wait()
				if got := strings.Count(log.String(), "used unchecked"); got != 1 || !strings.Contains(log.String(), tt.problem) {
					t.Errorf("%d lines about it, want 1 with %q:\n%s", got, tt.problem, log.String())
				}
				if got := problems(); !strings.Contains(got, "servers of api.internal.home.example are used unchecked: ") || !strings.Contains(got, tt.problem) {
					t.Errorf("problems are %q, want %q among them", got, tt.problem)
				}
				a.write(tt.file, ca, 0o644)
				if !<-found {
					t.Error("the CA was not found")
				}
				if got := problems(); strings.Contains(got, "unchecked") || !strings.Contains(log.String(), "checked from now on") {
					t.Errorf("once the CA is there: problems %q, log:\n%s", got, log.String())
				}
			})
		})
	}
}

func TestWaitingForACAEndsWithTheDaemon(t *testing.T) {
	a := newAwaiting(t)
	for name, cfg := range map[string]Config{"for enrolment": a.load(), "for a file": a.load(discoverySection, "")} {
		n, err := New(cfg, Options{Program: "muster-agent"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, ok := n.awaitRoots(ctx, n.services[0]); ok {
			t.Errorf("%s: a CA came from nowhere", name)
		}
	}
}
