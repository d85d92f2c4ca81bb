package lab

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/identity"
)

func TestKubernetesIsFoundWhereItIsSaidToBe(t *testing.T) {
	dir := t.TempDir()
	program := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flag, env := program("flag"), program("env")
	inPath, etcd := program("kube-apiserver"), program("etcd")
	for _, tt := range []struct {
		name, flag, env, path string
		want, fails           string
	}{
		{name: "a flag wins", flag: flag, env: env, path: dir, want: flag},
		{name: "then the environment", env: env, path: dir, want: env},
		{name: "then PATH", path: dir, want: inPath},
		{name: "nowhere", path: "/nonexistent", fails: "no kube-apiserver (PATH: "},
		{name: "a flag that points nowhere is no reason to look elsewhere", flag: "/nonexistent/x", path: dir, fails: "no kube-apiserver (--kube-apiserver: "},
		{name: "nor is such an environment", env: "/nonexistent/x", path: dir, fails: "no kube-apiserver ($KUBE_APISERVER: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PATH", tt.path)
			t.Setenv("KUBE_APISERVER", tt.env)
			t.Setenv("ETCD", "")
			k, err := FindKubernetes(tt.flag, "")
			if tt.fails != "" {
				if !errors.As(err, new(*UsageError)) || !strings.Contains(err.Error(), tt.fails) || !strings.Contains(err.Error(), "make kubernetes") {
					t.Errorf("error %v; want one of usage with %q that says how to build it", err, tt.fails)
				}
				return
			}
			if want := (Kubernetes{APIServer: tt.want, Etcd: etcd}); err != nil || k != want {
				t.Errorf("found %+v, %v; want %+v", k, err, want)
			}
		})
	}
}

func TestRealAPIServersNeedANetworkOfTheirOwn(t *testing.T) {
	_, err := newLab(Config{Dir: t.TempDir(), Cluster: &cluster.Cluster{Name: "a.k8s.local"}, Kubernetes: Kubernetes{APIServer: "/x"}})
	if !errors.As(err, new(*UsageError)) || !strings.Contains(err.Error(), "--netns") {
		t.Errorf("error %v; want one of usage that names --netns", err)
	}
}

func TestAKubeletBeatsAsARealOneDoes(t *testing.T) {
	known := make(map[string]bool)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		var object struct{ Kind string }
		if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
			t.Error(err)
		}
		switch want := map[string]string{"PATCH": "application/strategic-merge-patch+json", "POST": "application/json"}[r.Method]; {
		case r.Header.Get("Content-Type") != want:
			t.Errorf("%s is sent as %q; want %q", r.Method, r.Header.Get("Content-Type"), want)
		case r.Method == http.MethodPost:
			known[object.Kind] = true
		case !known[object.Kind]:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	at := server.Listener.Addr().String()
	client := &http.Client{Transport: rewritten(func(r *http.Request) { r.URL.Scheme, r.URL.Host = "http", at })}
	c := kubeletConfig{Node: "w", ServerName: "api.internal.a.k8s.local", Lease: true}
	for range 2 {
		if err := c.heartbeat(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
	const node, lease = "/api/v1/nodes", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	want := []string{
		"PATCH " + node + "/w/status", "POST " + node, "PATCH " + lease + "/w", "POST " + lease,
		"PATCH " + node + "/w/status", "PATCH " + lease + "/w",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// rewritten sends requests elsewhere.
type rewritten func(*http.Request)

func (f rewritten) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	f(r)
	return http.DefaultTransport.RoundTrip(r)
}

// grown is a lab on which nothing runs.
func grown(t *testing.T, start cluster.Topology) *Lab {
	t.Helper()
	l := legacyLab(t, Native)
	l.layout.LoadBalancer = netip.MustParseAddr("127.90.3.1")
	l.layout.Nodes = []Node{{Name: "w", Group: "nodes", Role: identity.Worker}}
	l.declared = l.layout.declared(start)
	l.removed = make(map[string]*machine)
	return l
}

func TestALabBeginsWithWhatItsTopologySays(t *testing.T) {
	for start, want := range map[cluster.Topology]Declared{
		cluster.Gossip: {Lookup: true, Controller: true, Ports: true, Templates: map[string]Template{"nodes": BornGossip}},
		cluster.Hybrid: {Controller: true, Ports: true, Templates: map[string]Template{"nodes": BornHybrid}},
		cluster.None:   {None: true, Quiet: true, Templates: map[string]Template{"nodes": BornNone}},
	} {
		if diff := cmp.Diff(want, grown(t, start).Declared()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", start, diff)
		}
	}
}

func TestWorkersThatMayNotLookFindNoSeeds(t *testing.T) {
	l := grown(t, cluster.Gossip)
	l.layout.Nodes = append(l.layout.Nodes, Node{Name: "cp", Group: "cp", Role: identity.ControlPlane, Addr: netip.MustParseAddr("127.90.1.1")})
	seeds := func() (workers, members string) {
		t.Helper()
		var read [2]string
		for i, name := range []string{"seeds.workers", "seeds"} {
			data, err := os.ReadFile(l.path(name))
			if err != nil {
				t.Fatal(err)
			}
			read[i] = string(data)
		}
		return read[0], read[1]
	}
	d := l.Declared()
	if err := l.Declare(d); err != nil {
		t.Fatal(err)
	}
	if workers, members := seeds(); workers == "" || workers != members {
		t.Errorf("seeds of workers %q, of members %q; want the same", workers, members)
	}
	d.Lookup = false
	if err := l.Declare(d); err != nil {
		t.Fatal(err)
	}
	if workers, members := seeds(); workers != "" || members == "" {
		t.Errorf("seeds of workers %q, of members %q; want none and some", workers, members)
	}
	d.Policy = true
	if err := l.Declare(d); err != nil {
		t.Fatal(err)
	}
	if workers, _ := seeds(); workers == "" {
		t.Error("the policy lets workers look, and they find no seeds")
	}
	d.Templates["others"] = BornNone
	if err := l.Declare(d); err == nil || !strings.Contains(err.Error(), `"others"`) {
		t.Errorf("a template of a group that is not there: %v", err)
	}
}

func TestDeclaredIsACopy(t *testing.T) {
	l := grown(t, cluster.Gossip)
	d := l.Declared()
	d.Templates["nodes"] = BornUnresolved
	if got := l.Declared().Templates["nodes"]; got != BornGossip {
		t.Errorf("a reader changed the template to %s", got)
	}
}

func TestRemovingAWorkerThatIsNotThereIsNoFault(t *testing.T) {
	l := grown(t, cluster.Gossip)
	if err := l.RemoveWorker(context.Background(), "nobody"); err != nil {
		t.Errorf("error %v; want none", err)
	}
	if err := l.AddWorker(context.Background(), "nobodies", "x"); err == nil || !strings.Contains(err.Error(), `"nobodies"`) {
		t.Errorf("a worker of a group that is not there: %v", err)
	}
}

func TestFlagsStayUntilTheyAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flags")
	first, err := flagsFile(path, func() []string { return []string{"--a=1", "--b"} })
	if err != nil || !slices.Equal(first, []string{"--a=1", "--b"}) {
		t.Fatalf("%q, %v", first, err)
	}
	again, err := flagsFile(path, func() []string { t.Error("made again"); return nil })
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("%q, %v; want %q", again, err, first)
	}
}
