package portforward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	gwebsocket "github.com/gorilla/websocket"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	clientportforward "k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/muster-dev/muster/internal/overlay/weave"
)

func TestMain(m *testing.M) {
	// The library waits a second for somebody to ask how its closing went.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// apiServer forwards ports of a node whose network is this machine's loopback.
type apiServer struct {
	t          *testing.T
	url        string
	websockets bool // it knows them
	deny       int  // status of everything, if not 0
	pods       []any

	mu        sync.Mutex // guards what follows
	forwarded []string
	work      sync.WaitGroup
}

func pod(name, node, ip string, host bool, phase string) any {
	return map[string]any{
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"hostNetwork": host, "nodeName": node},
		"status": map[string]any{"phase": phase, "hostIP": ip},
	}
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{t: t, websockets: true, pods: []any{pod("kube-apiserver-cp-1", "cp-1", "10.0.0.1", true, "Running")}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/kube-system/pods", func(w http.ResponseWriter, r *http.Request) {
		if a.deny != 0 {
			w.WriteHeader(a.deny)
			json.NewEncoder(w).Encode(map[string]string{"kind": "Status", "message": "pods is forbidden:\nno"})
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"kind": "PodList", "items": a.pods})
	})
	mux.HandleFunc("/api/v1/namespaces/kube-system/pods/{pod}/portforward", a.forward)
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); a.work.Wait() })
	a.url = s.URL
	return a
}

// forward is an API server's port-forward: SPDY, in a WebSocket or by itself.
func (a *apiServer) forward(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.forwarded = append(a.forwarded, r.Method+" "+r.PathValue("pod"))
	a.mu.Unlock()
	streams := make(chan httpstream.Stream, 2)
	accept := func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	}
	var tunnel httpstream.Connection
	if r.Method == http.MethodGet {
		if !a.websockets {
			http.Error(w, "no WebSockets here", http.StatusForbidden)
			return
		}
		upgrader := gwebsocket.Upgrader{Subprotocols: []string{"SPDY/3.1+portforward.k8s.io"}}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if tunnel, err = spdy.NewServerConnection(clientportforward.NewTunnelingConnection("server", ws), accept); err != nil {
			a.t.Error(err)
			return
		}
	} else {
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			a.t.Error(err)
			return
		}
		if tunnel = spdy.NewResponseUpgrader().UpgradeResponse(w, r, accept); tunnel == nil {
			return
		}
	}
	a.work.Go(func() { a.serve(tunnel, streams) })
}

func (a *apiServer) serve(tunnel httpstream.Connection, streams <-chan httpstream.Stream) {
	defer tunnel.Close()
	var faults, data httpstream.Stream
	for faults == nil || data == nil {
		select {
		case s := <-streams:
			if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				faults = s
			} else {
				data = s
			}
		case <-tunnel.CloseChan():
			return
		}
	}
	node, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", data.Headers().Get(corev1.PortHeader)))
	if err != nil {
		fmt.Fprintf(faults, "error forwarding port to pod: %v\n", err)
		faults.Close()
		data.Close()
		<-tunnel.CloseChan()
		return
	}
	defer node.Close()
	in := make(chan struct{})
	go func() {
		defer close(in)
		io.Copy(node, data)
		node.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(data, node)
	faults.Close()
	data.Close()
	select {
	case <-in:
	case <-tunnel.CloseChan():
	}
	tunnel.Close()
	<-in
}

// kubeconfig writes one that leads to the server.
func (a *apiServer) kubeconfig() string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), "config")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\n", a.url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *apiServer) open() (*Gateway, error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	return Open(ctx, Config{Kubeconfig: a.kubeconfig()})
}

func TestAnOverlayIsReadAndWrittenThroughTheAPIServer(t *testing.T) {
	for _, tc := range []struct {
		name       string
		websockets bool
		want       []string // the first forwards
	}{
		{"over a WebSocket", true, []string{"GET kube-apiserver-cp-1"}},
		{"over plain SPDY, where WebSockets are refused", false, []string{"GET kube-apiserver-cp-1", "POST kube-apiserver-cp-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			node, at := peer(t)
			server := newAPIServer(t)
			server.websockets = tc.websockets
			g, err := server.open()
			if err != nil {
				t.Fatal(err)
			}
			through := netip.AddrPortFrom(g.Pods()[0].Addr, at.Port())
			got, err := weave.Read(t.Context(), weave.Config{NodeName: "reader", Dial: g.Dial}, through)
			if err != nil {
				t.Fatal(err)
			}
			if got.NickName != "node-0" || len(got.State) != 1 {
				t.Errorf("read %+v", got)
			}
			if diff := cmp.Diff(tc.want, server.forwarded); diff != "" {
				t.Errorf("forwards (-want +got):\n%s", diff)
			}
			write(t, g, through)
			if r, ok := node.Get("dns/local/A/api.test.k8s.local"); !ok || r.Value != "10.0.0.9" {
				t.Errorf("the peer holds %+v", r)
			}
		})
	}
}

// peer runs a peer of the weave overlay on the node, with one record.
func peer(t *testing.T) (*weave.Node, netip.AddrPort) {
	t.Helper()
	node, err := weave.New(weave.Config{NodeName: "node-0", Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	at, err := node.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Publish("dns/local/NS/local", "gossip"); err != nil {
		t.Fatal(err)
	}
	return node, at
}

// write publishes through the gateway as a leaf does.
func write(t *testing.T, g *Gateway, through netip.AddrPort) {
	t.Helper()
	seeds := func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{through}, nil }
	leaf, err := weave.New(weave.Config{NodeName: "leaf", Leaf: true, Seeds: seeds, Dial: g.Dial})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- leaf.Run(ctx) }()
	<-leaf.Synced()
	if err := leaf.Publish("dns/local/A/api.test.k8s.local", "10.0.0.9"); err != nil {
		t.Fatal(err)
	}
	if err := leaf.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // at once
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		got, err := weave.Read(t.Context(), weave.Config{NodeName: "reader-2", Dial: g.Dial}, through)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.State) == 2 {
			return
		}
	}
	t.Error("what was written has not arrived")
}

func TestWhatWasWrittenLastArrives(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan string, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		text, _ := io.ReadAll(c)
		got <- string(text)
	}()
	g, err := newAPIServer(t).open()
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Dial(t.Context(), netip.AddrPortFrom(g.Pods()[0].Addr, netip.MustParseAddrPort(listener.Addr().String()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("last words ", 1000)
	if _, err := io.WriteString(c, want); err != nil {
		t.Fatal(err)
	}
	c.Close() // at once
	if text := <-got; text != want {
		t.Errorf("%d bytes arrived, want %d", len(text), len(want))
	}
}

func TestForwardedConnectionsHaveDeadlines(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	g, err := newAPIServer(t).open()
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Dial(t.Context(), netip.AddrPortFrom(g.Pods()[0].Addr, netip.MustParseAddrPort(listener.Addr().String()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read of a silent port: %v", err)
	}
}

func TestFaultsSayWhere(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(closed.Addr().String()).Port()
	closed.Close()
	t.Run("a port on which nobody listens", func(t *testing.T) {
		g, err := newAPIServer(t).open()
		if err != nil {
			t.Fatal(err)
		}
		c, err := g.Dial(t.Context(), netip.AddrPortFrom(g.Pods()[0].Addr, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port %d of the node: error forwarding port to pod:", port)) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("a node without a pod", func(t *testing.T) {
		g, err := newAPIServer(t).open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Dial(t.Context(), netip.MustParseAddrPort("10.0.0.99:3999")); err == nil || !strings.Contains(err.Error(), "no pod of kube-system with hostNetwork runs") {
			t.Errorf("dial: %v", err)
		}
	})
	t.Run("permission", func(t *testing.T) {
		server := newAPIServer(t)
		server.deny = http.StatusForbidden
		if _, err := server.open(); err == nil || !strings.Contains(err.Error(), "answers 403: pods is forbidden: no; it takes list on pods") {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("only pods with networks of their own", func(t *testing.T) {
		server := newAPIServer(t)
		server.pods = []any{pod("coredns", "cp-1", "10.0.0.1", false, "Running")}
		if _, err := server.open(); err == nil || !strings.Contains(err.Error(), "none runs with hostNetwork") {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("no kubeconfig", func(t *testing.T) {
		var bad *ConfigError
		if _, err := Open(t.Context(), Config{Kubeconfig: filepath.Join(t.TempDir(), "none")}); !errors.As(err, &bad) || strings.Contains(err.Error(), "\n") {
			t.Errorf("open: %v", err)
		}
		if _, err := Open(t.Context(), Config{Kubeconfig: newAPIServer(t).kubeconfig(), Context: "other"}); !errors.As(err, &bad) || !strings.Contains(err.Error(), "other") {
			t.Errorf("open of another context: %v", err)
		}
	})
}

func TestOnePodANodeIsChosen(t *testing.T) {
	data, err := json.Marshal(map[string]any{"items": []any{
		pod("kube-proxy-w", "worker", "10.0.0.9", true, "Running"),
		pod("cilium-w", "worker", "10.0.0.9", true, "Running"),
		pod("coredns-w", "worker", "10.0.0.9", false, "Running"),
		pod("dns-controller-1", "cp-2", "10.0.0.2", true, "Running"),
		pod("kops-controller-x", "cp-2", "10.0.0.2", true, "Running"),
		pod("kube-apiserver-cp-2", "cp-2", "10.0.0.2", true, "Pending"),
		pod("kube-apiserver-cp-1", "cp-1", "10.0.0.1", true, "Running"),
		pod("kops-controller-y", "cp-1", "10.0.0.1", true, "Running"),
		pod("odd", "odd", "not an address", true, "Running"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	var list podList
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	want := []Pod{
		{"kube-apiserver-cp-1", "cp-1", addr("10.0.0.1"), true},
		{"kops-controller-x", "cp-2", addr("10.0.0.2"), true},
		{"cilium-w", "worker", addr("10.0.0.9"), false},
	}
	if diff := cmp.Diff(want, choose(list), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
}
